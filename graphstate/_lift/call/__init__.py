"""One call of a function: its arguments, their way into a trace and out of it, and what becomes of it as a program.

_arguments         the arguments, and the graph that they make together
_boundary          carrying that graph into a trace and back out
_lifted            what all transformed functions have in common
_traced            a call in a frame of its own, in the trace of a transform
_capture           tracing once, with inputs that are found on the way
_captured          a call as a program that a transform runs in its own way
_structure         where the structure of a Node must stay as it is
_static_arguments  arguments that are handed on as they are
_streams           no two threads draw with one key
_lane_stream       the key of a RandomState in one lane
_types             types of values that must agree
_progress          how far a loop is, told to the user
"""
