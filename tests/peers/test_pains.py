"""What users of the peers complain of and what goes silently wrong there, one row each, with what holds here.

A row names the tests that show it, by file and function under `tests/`, or says why it is out of scope.
"""

import ast
import functools
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parents[1]

SILENT = "peers/test_silent_failures.py"
MESSAGES = "peers/test_messages.py"
COSTS = "peers/test_costs.py"
RETRACES = "lift/programs/test_cached.py"


class Row(NamedTuple):
    """One pain.

    Attributes:
        there: what goes wrong there.
        here: the tests of what holds here, as "file::function"; or "out of scope, because ...".
    """

    there: str
    here: tuple[str, ...] | str


def in_file(file: str, *functions: str) -> tuple[str, ...]:
    return tuple(f"{file}::{function}" for function in functions)


OUT_OF_SCOPE = "out of scope, because "

NNX_PAINS = (
    Row(
        "a call costs time for each variable in the model",
        in_file(COSTS, "test_a_warm_call_walks_no_attributes", "test_a_warm_call_makes_few_python_calls_for_each_state")
        + in_file("benchmarks/test_dispatch.py", "test_each_row_has_the_ratios_of_what_is_installed"),
    ),
    Row(
        "three modes and their flags, and names that come and go",
        in_file(COSTS, "test_no_transform_has_a_mode")
        + in_file("graph/test_door.py", "test_the_door_shows_these_names"),
    ),
    Row(
        "random streams have to be split and tagged by hand under vmap and scan, or all lanes draw alike",
        in_file(SILENT, "test_masks_differ_in_every_lane", "test_members_and_samples_differ"),
    ),
    Row(
        "axes of states take prefixes and wrappers to say; an ensemble is no concept",
        in_file(SILENT, "test_an_ensemble_takes_the_code_of_one_member")
        + in_file("optim/test_ensemble.py", "test_members_trained_in_one_call_equal_those_trained_one_by_one"),
    ),
    Row(
        "errors of trace levels without path or source",
        in_file(MESSAGES, "test_a_message_says_where_it_went_wrong_and_the_way_out"),
    ),
    Row(
        "the transforms of JAX do not compose with the library's",
        in_file("transform/test_nesting.py", "test_split_and_merge_are_right_inside_of_plain_jax")
        + in_file(SILENT, "test_plain_jax_differentiates_a_merged_model_that_draws_and_counts"),
    ),
    Row(
        "there is no jacobian or hessian",
        in_file(
            "transform/test_jacobian.py",
            "test_the_derivative_by_a_node_is_a_graph_state_in_each_leaf_of_the_output",
            "test_a_hessian_is_a_graph_state_of_graph_states",
        ),
    ),
    Row(
        "lists and dicts have to be declared, except after `__init__`, where they are missed",
        in_file(SILENT, "test_a_list_that_is_filled_later_counts", "test_dicts_may_have_any_keys")
        + in_file("graph/test_predecessors.py", "test_a_list_of_layers_needs_no_wrapper"),
    ),
    Row(
        "hidden compilation: a lambda or an optimizer made anew, a counter, eager control flow",
        in_file(
            COSTS,
            "test_a_function_on_each_instance_does_not_retrace",
            "test_an_optimizer_made_anew_does_not_retrace",
            "test_eager_control_flow_compiles_once",
        )
        + in_file(
            RETRACES,
            "test_a_static_attribute_counted_up_finds_its_programs_again",
            "test_equal_structures_share_a_program",
        ),
    ),
    Row(
        "parameters that a step only reads are copied through it",
        in_file(COSTS, "test_what_is_only_read_stays_the_very_array", "test_only_what_is_written_leaves_the_program")
        + in_file("transform/test_jit_donation.py", "test_states_that_are_written_are_written_in_place"),
    ),
    Row(
        "checkpoints: numbers become text, keys do not fit, nothing is checked",
        in_file(SILENT, "test_saved_values_come_back_checked", "test_update_takes_what_fits_and_names_the_rest")
        + in_file("graph/test_predecessors.py", "test_numbers_from_a_file_fit_a_list"),
    ),
    Row(
        "updates are lost in silence",
        in_file(
            SILENT,
            "test_a_node_is_no_pytree_that_plain_jax_copies",
            "test_plain_attributes_changed_inside_come_out",
            "test_new_states_come_out",
            "test_metadata_cannot_be_set_and_lost",
        ),
    ),
    Row(
        "errors and pictures dump whole graphs and internal paths",
        in_file(MESSAGES, "test_a_message_says_where_it_went_wrong_and_the_way_out")
        + in_file("graph/test_text.py", "test_length_is_capped", "test_it_never_raises"),
    ),
    Row(
        "metadata of parameters and of their optimizer part ways; documents do not run",
        in_file("optim/test_optimizer.py", "test_axis_names_of_a_parameter_are_those_of_its_optimizer_state")
        + in_file("test_readme.py", "test_its_python_runs_in_order_and_prints_what_it_says"),
    ),
)

NNX_SILENT = (
    Row(
        "an array written over a parameter hides it", in_file(SILENT, "test_an_array_over_a_parameter_is_no_parameter")
    ),
    Row("attributes called as the library's methods break it", in_file(SILENT, "test_a_node_may_have_any_attribute")),
    Row("dicts: no int keys, no mixed keys, l10 before l2", in_file(SILENT, "test_dicts_may_have_any_keys")),
    Row("`jax.jit(f)(module)` loses what it writes", in_file(SILENT, "test_a_node_is_no_pytree_that_plain_jax_copies")),
    Row("`jax.grad` gives tied variables two gradients", in_file(SILENT, "test_tied_states_have_one_gradient")),
    Row("a closed-over module is a constant", in_file(SILENT, "test_a_closed_over_node_is_no_constant")),
    Row("metadata set inside of jit is lost", in_file(SILENT, "test_metadata_cannot_be_set_and_lost")),
    Row("dropout under vmap: one mask for all rows", in_file(SILENT, "test_masks_differ_in_every_lane")),
    Row(
        "one variable with two axes in one module passes unseen",
        in_file(SILENT, "test_one_state_under_two_axes_in_one_node_is_an_error"),
    ),
    Row(
        "all of the state leaves the program on each call",
        in_file(COSTS, "test_only_what_is_written_leaves_the_program"),
    ),
    Row(
        "a summary that raises leaves the classes of the model patched",
        OUT_OF_SCOPE + "there is no summary yet that runs a model; pictures read attributes and patch nothing.",
    ),
    Row(
        "`jax.tree.leaves` of a cyclic module breaks the process",
        in_file(SILENT, "test_a_cyclic_node_is_a_leaf_to_plain_jax"),
    ),
    Row(
        "captured intermediate values stay in the model after an error",
        OUT_OF_SCOPE + "nothing captures intermediate values yet; a failing call changes nothing.",
    ),
    Row(
        "a copy that shares buffers is deleted when the original is donated",
        in_file("transform/test_jit_donation.py", "test_a_clone_keeps_its_values"),
    ),
    Row(
        "the functional style fails with dropout and counters",
        in_file(SILENT, "test_plain_jax_differentiates_a_merged_model_that_draws_and_counts"),
    ),
    Row(
        "`update` takes a wrong shape, plants a misspelt name",
        in_file(SILENT, "test_update_takes_what_fits_and_names_the_rest"),
    ),
    Row("`PathContains` sees one of two paths", in_file(SILENT, "test_a_shared_state_is_found_by_each_of_its_paths")),
    Row("equality, hash and arithmetic of variables", in_file(SILENT, "test_a_state_is_itself_and_no_number")),
    Row(
        "the text of an ensemble does not tell it from one member; shared parts are shown once, functions are noise",
        in_file(
            "graph/test_text.py",
            "test_a_small_node_is_one_line",
            "test_what_is_shared_is_shown_by_its_path_and_cycles_by_an_arrow_back",
        ),
    ),
    Row(
        "what works well there: identity, clean failures, pickling, shared traces",
        in_file(
            "lift/call/test_boundary.py",
            "test_objects_of_arguments_come_back_as_themselves",
            "test_a_failing_function_leaves_the_structure_alone",
        )
        + in_file("transform/test_jit.py", "test_a_failing_call_changes_nothing")
        + in_file(RETRACES, "test_equal_structures_share_a_program")
        + in_file("graph/test_pickling.py", "test_every_protocol_from_two_on_works"),
    ),
)

BRAINSTATE = (
    Row("jit ignores the environment", in_file(SILENT, "test_jit_sees_the_environment")),
    Row("jit ignores static attributes and graph edits", in_file(SILENT, "test_jit_sees_every_edit")),
    Row("`jax.jit(vmap(model))` bakes the values", in_file(SILENT, "test_a_plain_jit_around_a_map_of_states_warns")),
    Row("an axis is guessed from a size", in_file(SILENT, "test_an_axis_is_not_guessed_from_a_size")),
    Row("a state grows an axis at each call", in_file(SILENT, "test_a_state_does_not_grow")),
    Row("`Map` batches only what `init_state` makes", in_file(SILENT, "test_a_mapped_constructor_batches_everything")),
    Row(
        "`update_states` takes unknown paths and wrong shapes",
        in_file(SILENT, "test_update_takes_what_fits_and_names_the_rest"),
    ),
    Row(
        "`shard_map` draws alike on every shard",
        in_file("transform/test_shard_map.py", "test_each_shard_draws_from_a_stream_of_its_own"),
    ),
    Row("tracers leak through plain attributes", in_file(SILENT, "test_an_array_kept_on_a_node_is_no_tracer")),
    Row("an array attribute is static and then fails", in_file(SILENT, "test_an_array_attribute_is_a_leaf")),
    Row(
        "user code runs several times, on zeros",
        in_file(SILENT, "test_user_code_runs_once_and_never_on_made_up_values"),
    ),
)

EQUINOX = (
    Row(
        "state is threaded by hand through every call, and grows axes",
        in_file(SILENT, "test_running_statistics_are_written_in_place", "test_a_state_does_not_grow"),
    ),
    Row(
        "the axes of states under vmap are the user's problem",
        in_file("transform/test_vmap.py", "test_a_lane_dependent_write_to_an_unmapped_argument_is_an_error")
        + in_file(SILENT, "test_running_statistics_are_written_in_place"),
    ),
    Row(
        "training an ensemble is left to the user",
        in_file("optim/test_ensemble.py", "test_members_trained_in_one_call_equal_those_trained_one_by_one"),
    ),
    Row(
        "`in_axes` on a model fails on its activation functions",
        in_file(SILENT, "test_functions_and_strings_of_a_node_are_no_lanes"),
    ),
    Row(
        "a layer used twice is two layers",
        in_file(SILENT, "test_tied_states_have_one_gradient", "test_a_layer_used_twice_is_trained_as_one"),
    ),
    Row("`filter_jit` costs more than the call", in_file(COSTS, "test_a_warm_call_walks_no_attributes")),
    Row(
        "modules as carries of loops and branches have to be taken apart",
        in_file(SILENT, "test_nodes_go_through_every_loop_and_branch"),
    ),
    Row(
        "parameters and buffers are not told apart: buffers decay, freezing takes a tree of booleans",
        in_file(SILENT, "test_buffers_do_not_decay_and_a_filter_freezes"),
    ),
    Row(
        "compiles again in silence",
        in_file(COSTS, "test_a_function_on_each_instance_does_not_retrace")
        + in_file("transform/test_assert_max_traces.py", "test_it_tells_structure_static_attributes_and_states")
        + in_file(RETRACES, "test_new_values_do_not_retrace"),
    ),
    Row(
        "a map with `out_axes=-1` returned the wrong layout",
        in_file(SILENT, "test_every_out_axis_is_the_loop_stacked_there"),
    ),
    Row(
        "models that can be called confuse optax", in_file(SILENT, "test_optax_takes_gradients_and_labels_as_they_are")
    ),
)

TABLE = NNX_PAINS + NNX_SILENT + BRAINSTATE + EQUINOX


@functools.cache
def functions_of(file: str) -> frozenset[str]:
    """The test functions of a file."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.there)
def test_each_row_names_tests_that_exist_or_a_reason(row):
    if isinstance(row.here, str):
        assert row.here.startswith(OUT_OF_SCOPE)
        return
    assert row.here
    for test in row.here:
        file, function = test.split("::")
        assert function in functions_of(file)


def test_each_test_of_the_peers_is_in_the_table():
    named = {test for row in TABLE if isinstance(row.here, tuple) for test in row.here}
    for file in (SILENT, MESSAGES, COSTS):
        assert {f"{file}::{function}" for function in functions_of(file)} <= named
