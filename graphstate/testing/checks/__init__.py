"""The checks, by what they look at.

_mapping    lanes, one by one and in other batches
_lanes      what reaches a lane from the others
_compiling  compiling, tracing, dtypes
_devices    lanes spread over devices
_gradients  derivatives, and what is computed again for them
_loops      steps one after another
_random     random numbers
_graphs     taking apart and putting together
_table      all of them, with what each applies to
"""
