"""Control flow: bodies and branches, traced once for all steps.

_carry     what must agree before and after a step
_loop      a loop of a known number of steps
_while     a loop that runs as long as a condition holds
_branches  one of several functions
_combine   an associative operation
"""
