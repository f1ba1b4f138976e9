"""What a function depends on beside its arguments, and whether it is still as it was.

_names  which names a function mentions
_seen   how a value looked when it was last seen
_check  what is compared on each call
_watch  everything that a function refers to
_guard  what must not change while a function is traced
"""
