"""The engine: stateful function, pure function, JAX transform, and the States written back.

_plan       what was found when an object's graph was walked, for as long as it is unchanged
_watch      what a function depends on besides its arguments
_arguments  the arguments of a call, and the graph that they make together
_boundary   carrying that graph into a trace and back out
_capture    tracing once, with inputs that are found on the way
_lifted     what all transformed functions have in common
_gradient   what is differentiated
_tangent    what gradients, tangents and cotangents look like
_derivative one call of a differentiated function
_cached     calling a traced program again
"""
