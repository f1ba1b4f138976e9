"""Maps: what the lanes see, what they may write, how their values come out.

_axes          which axis of everything is that of the lanes
_lanes         the frame of a map
_owners        which results own a place of the graph that comes out
_mapping       one call of a mapped function
_lane_program  one lane as a program, however the lanes are run
_sequence      lanes one after another, or in batches
_specs         how arrays are split over the devices of a mesh
_shards        lanes that are shards, one a device
_devices       the devices that lanes are spread over
_spread        lanes spread over devices
_placement     where the inputs of spread lanes lie
_moving        putting arrays where they are wanted
_account       what a call is about to be made with, in words
_agreement     several processes, before they do something together
"""
