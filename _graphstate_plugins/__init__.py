"""What pytest and hypothesis load at their start, wherever graphstate is installed: it imports no JAX."""
