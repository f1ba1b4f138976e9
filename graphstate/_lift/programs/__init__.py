"""Programs that are kept, and called again.

_cached       finding the program of a call, and running it
_entry        the programs of one structure, and what they depend on
_build        one way to compile a program
_built        a call of a program that is built in a way of its own
_donation     buffers that are given away
_shardings    where inputs and outputs lie
_placing      inputs that are put where a program needs them
_explanation  what is known of a compiled function
_reuse        programs of functions that are handed over anew on each call
"""
