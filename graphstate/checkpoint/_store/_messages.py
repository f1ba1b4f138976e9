"""What Orbax says, in a few words."""

__all__ = ["first_line"]


def first_line(error: Exception) -> str:
    """The beginning of the message of an error."""
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= 300 else line[:150] + " ... " + line[-150:]
