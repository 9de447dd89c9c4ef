"""Task and batch_order: what they accept, what they refuse, and in which words."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from mupjax.task import Task, batch_order

X = np.random.default_rng(0).standard_normal((6, 4))
Y = np.random.default_rng(1).standard_normal((6, 2))
LABELS = np.array([0, 1, 2, 0, 1, 2])


def spoilt(array: np.ndarray, row: int, value: float) -> np.ndarray:
    array = array.copy()
    array[row, -1] = value
    return array


# Construction


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.uint8])
def test_real_numbers_of_any_dtype_are_cast_to_float32(dtype):
    x, y = (3 * X).astype(dtype), (3 * Y).astype(dtype)
    task = Task(x, y, x, y)
    for ours, theirs in ((task.x_train, x), (task.y_train, y), (task.x_test, x), (task.y_test, y)):
        assert ours.dtype == jnp.float32
        np.testing.assert_array_equal(ours, theirs.astype(np.float32))


def test_float64_is_kept_where_jax_runs_in_x64():
    with jax.enable_x64(True):
        task = Task(X, Y)
        assert task.x_train.dtype == task.y_train.dtype == jnp.float64
        np.testing.assert_array_equal(task.x_train, X)


def test_jax_arrays_and_nested_lists_are_accepted():
    np.testing.assert_array_equal(Task(jnp.asarray(X), jnp.asarray(Y)).inputs, Task(X.tolist(), Y.tolist()).inputs)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_labels_of_any_integer_dtype_become_int32(dtype):
    task = Task(X, LABELS.astype(dtype), loss="cross_entropy")
    assert task.y_train.dtype == jnp.int32
    np.testing.assert_array_equal(task.y_train, LABELS)


def test_sizes_follow_from_the_arrays():
    task = Task(X, Y, X[:3], Y[:3])
    assert (task.num_train, task.num_test, task.num_inputs, task.input_dim, task.out_dim) == (6, 3, 9, 4, 2)
    np.testing.assert_array_equal(task.inputs, np.concatenate([X, X[:3]]).astype(np.float32))
    assert repr(task) == "Task(train=6, test=3, input_dim=4, out_dim=2, loss='mse')"


def test_without_a_test_set_the_inputs_are_the_training_inputs():
    task = Task(X, Y)
    assert (task.x_test, task.y_test, task.num_test, task.num_inputs) == (None, None, 0, 6)
    np.testing.assert_array_equal(task.inputs, task.x_train)


def test_class_count_is_the_largest_training_label_plus_one_unless_given():
    assert Task(X, LABELS, loss="cross_entropy").out_dim == 3
    assert Task(X, LABELS, loss="cross_entropy", num_classes=10).out_dim == 10


def test_one_sample_may_have_one_class():
    assert Task(X[:1], np.array([1]), loss="cross_entropy").out_dim == 2


def test_test_set_may_hold_one_class():
    assert Task(X, LABELS, X[:2], np.array([1, 1]), loss="cross_entropy").out_dim == 3


# A pytree with static loss


def test_leaves_are_the_arrays_named_by_path_and_the_loss_is_static():
    task = Task(X, LABELS, X[:2], LABELS[:2], loss="cross_entropy")
    leaves, treedef = jax.tree_util.tree_flatten_with_path(task)
    assert [jax.tree_util.keystr(path) for path, _ in leaves] == [".x_train", ".y_train", ".x_test", ".y_test"]
    assert jax.tree.unflatten(treedef, [leaf for _, leaf in leaves]).loss == "cross_entropy"
    assert treedef != jax.tree.structure(Task(X, Y, X, Y))
    assert len(jax.tree.leaves(Task(X, Y))) == 2  # no leaf for a missing test set


def test_round_trip_through_jit():
    task = Task(X, LABELS, X[:2], LABELS[:2], loss="cross_entropy", num_classes=5)
    back = jax.jit(lambda t: t)(task)
    assert (back.loss, back.num_classes) == ("cross_entropy", 5)
    jax.tree.map(np.testing.assert_array_equal, back, task)


def test_another_loss_is_another_program_and_other_data_are_not():
    traces = []

    @jax.jit
    def loss_name(task: Task) -> jax.Array:
        traces.append(task.loss)
        return task.x_train.sum() * (1 if task.loss == "mse" else 2)

    loss_name(Task(X, Y))
    loss_name(Task(2 * X, 3 * Y))
    assert traces == ["mse"]
    loss_name(Task(X, LABELS, loss="cross_entropy"))
    assert traces == ["mse", "cross_entropy"]


def test_vmap_over_stacked_tasks_equals_a_loop():
    tasks = [Task(scale * X, Y, X[:2], Y[:2]) for scale in (1.0, 2.0, 4.0)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)
    sums = jax.vmap(lambda task: task.inputs.sum(axis=0))(stacked)
    np.testing.assert_array_equal(sums, np.stack([task.inputs.sum(axis=0) for task in tasks]))


def test_tree_map_keeps_placeholders_that_no_check_would_pass():
    axes = jax.tree.map(lambda _: 0, Task(X, Y))
    assert isinstance(axes, Task)
    assert (axes.x_train, axes.y_train, axes.loss, axes.num_classes) == (0, 0, "mse", 2)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X, Y, X), {}, r"Expected `x_test` and `y_test` to be given together"),
        ((X, Y, None, Y), {}, r"Expected `x_test` and `y_test` to be given together"),
        ((X[0], Y), {}, r"Expected `x_train` to have shape \[N, d\], got shape \(4,\)"),
        ((X[None], Y), {}, r"Expected `x_train` to have shape \[N, d\], got shape \(1, 6, 4\)"),
        ((X, Y, X[0], Y), {}, r"Expected `x_test` to have shape \[N, d\], got shape \(4,\)"),
        ((X, Y, X[:, :3], Y), {}, r"Expected `x_test` to have x_train's 4 columns, got 3"),
        ((X[:0], Y[:0]), {}, r"Expected `x_train` to be non-empty, got shape \(0, 4\)"),
        ((X[:, :0], Y), {}, r"Expected `x_train` to be non-empty, got shape \(6, 0\)"),
        ((X, Y, X[:0], Y[:0]), {}, r"Expected `x_test` to be non-empty, got shape \(0, 4\)"),
        ((X, Y[:, :0]), {}, r"Expected `y_train` to be non-empty, got shape \(6, 0\)"),
        ((X, Y[:5]), {}, r"Expected `y_train` to have shape \[6, C\] for loss='mse', got shape \(5, 2\)"),
        ((X, Y[:, 0]), {}, r"Expected `y_train` to have shape \[6, C\] for loss='mse', got shape \(6,\)"),
        ((X, Y, X, Y[:, :1]), {}, r"Expected `y_test` to have y_train's 2 columns, got 1"),
        ((X, Y), {"num_classes": 3}, r"Expected `num_classes` to be y_train's 2 columns, got 3"),
        ((spoilt(X, 3, np.nan), Y), {}, r"Expected `x_train` to be finite in float32, .* not in row 3"),
        ((spoilt(X, 5, -np.inf), Y), {}, r"Expected `x_train` to be finite in float32, .* not in row 5"),
        ((X, spoilt(Y, 2, np.inf)), {}, r"Expected `y_train` to be finite in float32, .* not in row 2"),
        ((X, Y, spoilt(X, 1, np.nan), Y), {}, r"Expected `x_test` to be finite in float32, .* not in row 1"),
        ((X, Y, X, spoilt(Y, 4, np.nan)), {}, r"Expected `y_test` to be finite in float32, .* not in row 4"),
        ((spoilt(X, 2, 1e39), Y), {}, r"Expected `x_train` to be finite in float32, .* not in row 2"),
    ],
)
def test_bad_arrays_are_refused_in_one_line_that_names_them(arguments, options, message):
    with pytest.raises(ValueError, match=message) as error:
        Task(*arguments, **options)
    assert "\n" not in str(error.value)


def test_unknown_loss_is_refused():
    jaxtyping_config.update("jaxtyping_disable", True)  # as users run it: the annotation alone would refuse the name
    try:
        with pytest.raises(ValueError, match="Expected `loss` to be 'mse' or 'cross_entropy', got loss='hinge'"):
            Task(X, Y, loss="hinge")
    finally:
        jaxtyping_config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("labels", "test_labels", "num_classes", "message"),
    [
        (LABELS[:, None], None, None, r"Expected `y_train` to have shape \[6\] for loss='cross_entropy', .*\(6, 1\)"),
        (LABELS[:5], None, None, r"Expected `y_train` to have shape \[6\] for loss='cross_entropy', .*\(5,\)"),
        (LABELS - 1, None, None, r"Expected `y_train` to hold labels in 0..C-1, got -1"),
        (LABELS, None, 2, r"Expected `y_train` to hold labels in 0..1, got 2"),
        (LABELS, LABELS + 1, None, r"Expected `y_test` to hold labels in 0..2, got 3"),
        (LABELS, LABELS - 3, None, r"Expected `y_test` to hold labels in 0..C-1, got -3"),
        (LABELS + 2**32, None, 3, r"Expected `y_train` to hold labels in 0..C-1, got 4294967298"),  # 2 in int32
        (0 * LABELS + 1, None, None, r"Expected `y_train` to hold at least two classes, got only class 1"),
        (0 * LABELS + 1, None, 3, r"Expected `y_train` to hold at least two classes, got only class 1"),
    ],
)
def test_bad_labels_are_refused_in_one_line_that_names_them(labels, test_labels, num_classes, message):
    x_test = None if test_labels is None else X
    with pytest.raises(ValueError, match=message):
        Task(X, labels, x_test, test_labels, loss="cross_entropy", num_classes=num_classes)


def test_one_sample_of_class_zero_needs_a_class_count():
    with pytest.raises(ValueError, match="Expected `num_classes` to be at least 2, got num_classes=1"):
        Task(X[:1], np.array([0]), loss="cross_entropy")


@pytest.mark.parametrize("labels", [LABELS.astype(np.float32), LABELS == 1, LABELS.astype(str)])
def test_labels_of_another_kind_are_a_type_error(labels):
    with pytest.raises(TypeError, match="Expected `y_train` to hold integer labels, got dtype"):
        Task(X, labels, loss="cross_entropy")


@pytest.mark.parametrize("x", [X > 0, X.astype(complex), X.astype(str), X.astype(object)])
def test_inputs_of_another_kind_are_a_type_error(x):
    with pytest.raises(TypeError, match="Expected `x_train` to hold real numbers, got dtype"):
        Task(x, Y)


# batch_order


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("num_inputs", "batch_size", "steps"), [(7, 2, 7), (8, 4, 5)])
def test_every_epoch_is_a_permutation_with_the_incomplete_batch_dropped(num_inputs, batch_size, steps, seed):
    batches = batch_order(jax.random.key(seed), num_inputs, batch_size, steps)
    assert batches.shape == (steps, batch_size)
    assert batches.dtype == jnp.int32
    assert 0 <= int(batches.min()) <= int(batches.max()) < num_inputs
    per_epoch = num_inputs // batch_size
    for start in range(0, steps, per_epoch):
        epoch = np.asarray(batches[start : start + per_epoch]).ravel()
        assert len(np.unique(epoch)) == len(epoch)  # nothing twice within an epoch
        if len(epoch) == num_inputs:
            np.testing.assert_array_equal(np.sort(epoch), np.arange(num_inputs))


def test_batches_are_a_function_of_the_key_and_epochs_differ():
    first = batch_order(jax.random.key(0), 32, 8, 8)
    np.testing.assert_array_equal(first, batch_order(jax.random.key(0), 32, 8, 8))
    # Two random orders of 32 inputs agree by chance with probability 1/32! = 4e-36.
    assert not np.array_equal(first, batch_order(jax.random.key(1), 32, 8, 8))
    assert not np.array_equal(first[:4], first[4:])


@pytest.mark.parametrize("batch_size", [0, -1, 9])
def test_batch_sizes_out_of_range_are_refused(batch_size):
    with pytest.raises(ValueError, match=rf"Expected `batch_size` to be in 1..8, got batch_size={batch_size}"):
        batch_order(jax.random.key(0), 8, batch_size, 3)


@pytest.mark.parametrize("steps", [0, -3])
def test_numbers_of_steps_that_are_not_positive_are_refused(steps):
    with pytest.raises(ValueError, match=rf"Expected `steps` to be a positive int, got steps={steps}"):
        batch_order(jax.random.key(0), 8, 4, steps)


# Assumption 4.1 (tests/test_input_check.py has the rest)


def test_the_training_inputs_are_checked_as_the_task_holds_them():
    x = np.concatenate([X, X[:1] + 1e-12])  # different in float64, equal in float32
    assert Task(X, Y, X, Y).check_inputs().holds  # the test inputs are the same again, and do not matter
    assert [v.inputs for v in Task(x, np.ones((7, 1))).check_inputs().violations] == [(i, 0, 6) for i in range(7)]
    with jax.enable_x64(True):
        check = Task(x, np.ones((7, 1))).check_inputs()
        assert (check.holds, check.input_rounding) == (True, 2.0**-51)
