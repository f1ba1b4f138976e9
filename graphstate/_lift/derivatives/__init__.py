"""Derivatives: what is differentiated, what tangents look like, and rules of the user.

_gradient     what is differentiated
_tangent      what gradients, tangents and cotangents look like
_zeros        zeros among them
_derivative   one call of a differentiated function
_rule_inputs  what functions with rules take
_rules        one call of a function with rules
_custom_jvp   with a rule for its tangent
_custom_vjp   with a rule for its backward pass
_ruled        what users hold of it
"""
