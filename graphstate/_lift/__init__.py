"""The engine: stateful function, pure function, JAX transform, and the States written back.

From the floor up:

watch         what a function depends on beside its arguments
call          one call: into a trace, and out of it
programs      programs that are kept, and called again
lanes         maps
flow          loops and branches
derivatives   gradients, tangents, and rules of the user
"""
