# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Tensors and buffers: shapes, types, views, the buffer protocol, DLPack, and what they look like."""

from __future__ import annotations

import copy
import ctypes
import gc
import itertools
import math
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import transom as ts

DTYPES = {
    "uint8": "u8",
    "int8": "i8",
    "bool": "bool",
    "uint16": "u16",
    "int16": "i16",
    "float16": "f16",
    "uint32": "u32",
    "int32": "i32",
    "float32": "f32",
    "uint64": "u64",
    "int64": "i64",
    "float64": "f64",
}


@pytest.fixture(scope="module")
def w() -> Iterator[ts.Worker]:
    with ts.Worker(start_method="fork") as w:
        yield w


# ---- shapes ----


@pytest.mark.parametrize(
    "shape", [(), (0,), (5,), (2, 3), (0, 4), (4, 0, 2), (1,) * 8, (2,) * 8, (1, 3, 1, 2)], ids=repr
)
def test_buffer_has_the_shape_it_was_asked_for(w: ts.Worker, shape: tuple[int, ...]) -> None:
    x = w.buffer(shape, "int32")
    like = np.zeros(shape, np.int32)
    assert (x.shape, x.ndim, x.size, x.nbytes, x.itemsize) == (like.shape, like.ndim, like.size, like.nbytes, 4)
    assert x.dtype == "int32" and (x.strides == like.strides or x.size == 0)
    assert x.numpy().shape == shape and not x.numpy().any()
    assert memoryview(x).shape == shape and memoryview(x).nbytes == x.nbytes
    if shape:
        assert len(x) == shape[0]
    else:
        with pytest.raises(TypeError, match="len.. of a tensor of a single element"):
            len(x)


def test_shape_may_be_an_int_or_any_sequence_of_ints(w: ts.Worker) -> None:
    for shape, expected in (
        (3, (3,)),
        (np.int64(3), (3,)),
        (np.uint8(3), (3,)),
        ([2, 3], (2, 3)),
        (np.array([2, 3]), (2, 3)),
        ((np.int64(2), 3), (2, 3)),
        (range(1, 4), (1, 2, 3)),
        ((i for i in (4, 5)), (4, 5)),
    ):
        assert w.buffer(shape).shape == expected


def test_shape_that_is_none_is_refused_by_name(w: ts.Worker) -> None:
    calls = (w.buffer, lambda s: ts.Tensor(0, s), ts.empty, lambda s: w.run(lambda orch, a, c: orch.alloc(s)))
    tests: list[tuple[Any, type[Exception], str]] = [
        (-1, ValueError, "shape is -1"),
        ((2, -1), ValueError, r"shape\[1\] is -1"),
        ((1,) * 9, ValueError, "shape has 9 dimensions: at most 8"),
        ("3", TypeError, "shape must be a sequence of ints"),
        (b"3", TypeError, "shape must be a sequence of ints"),
        (2.0, TypeError, "shape must be a sequence of ints, not <class 'float'>"),
        (None, TypeError, "shape must be a sequence of ints"),
        (True, TypeError, "shape must be an int, not <class 'bool'>"),
        ((2, "3"), TypeError, r"shape\[1\] must be an int, not <class 'str'>"),
        ((2, 3.0), TypeError, r"shape\[1\] must be an int"),
        (1 << 60, ValueError, "shape is 1152921504606846976"),
    ]
    for call, (shape, error, text) in itertools.product(calls, tests):
        with pytest.raises(error, match=text):
            call(shape)
    for call in (w.buffer, ts.empty, lambda s: ts.Tensor(64, s)):
        with pytest.raises(ValueError, match=r"shape\[1\] is 1099511627776: too large"):
            call((1 << 40, 1 << 40))
    with pytest.raises(MemoryError):
        w.buffer(1 << 44)


# ---- types ----


@pytest.mark.parametrize("name", DTYPES)
def test_values_of_every_type_go_to_numpy_and_back(w: ts.Worker, name: str) -> None:
    x = w.buffer(7, name)
    values = np.array([0, 1, 2, 3, 100, 1, 127]).astype(name)
    assert x.numpy().dtype == np.dtype(name) and x.dtype == name
    x.numpy()[:] = values
    assert np.asarray(x).tolist() == np.from_dlpack(x).tolist() == values.tolist()
    assert bytes(x) == values.tobytes() and memoryview(x).format == values.data.format.replace("l", "q").replace(
        "L", "Q"
    )
    for other in (DTYPES[name], name.upper(), np.dtype(name), getattr(np, name + "_" * (name == "bool"))):
        assert w.buffer(1, other).dtype == name
    member = ts.DataType[name.upper()]
    assert (w.buffer(1, member).dtype, ts.Tensor(0, 1, member).dtype, member.value) == (name, name, name)
    assert ts.CommBufferSpec("b", member, 1).dtype == name


def test_bfloat16_comes_as_its_bits(w: ts.Worker) -> None:
    x = w.buffer(3, "bfloat16")
    assert (x.dtype, x.itemsize, x.numpy().dtype) == ("bfloat16", 2, np.uint16)
    x.numpy()[:] = 0x3F80
    assert memoryview(x).format == "H" and memoryview(x).tolist() == [0x3F80] * 3
    assert w.buffer(1, "bf16").dtype == "bfloat16" == w.buffer(1, ts.DataType.BFLOAT16).dtype


def test_type_may_be_what_other_libraries_call_it(w: ts.Worker) -> None:
    class TorchDtype:
        def __str__(self) -> str:
            return "torch.bfloat16"

    class Named:
        name = "int64"

    assert w.buffer(1, TorchDtype()).dtype == "bfloat16"
    assert w.buffer(1, Named()).dtype == "int64"


@pytest.mark.parametrize("wrong", ["float", "f128", "", "x" * 1000, "torch.float32"], ids=lambda v: v[:10])
def test_type_that_is_none_is_refused_by_name(w: ts.Worker, wrong: str) -> None:
    for call in (lambda: w.buffer(1, wrong), lambda: ts.Tensor(0, 1, wrong), lambda: ts.empty(1, wrong)):
        with pytest.raises(ValueError, match=f"dtype is '{wrong[:20]}.*bfloat16"):
            call()
    for other in (5, None, object(), int, np.complex64, np.dtype("M8[s]"), []):
        with pytest.raises(TypeError, match="dtype is"):
            w.buffer(1, other)


# ---- views ----

INDICES: list[Any] = [
    0,
    -1,
    slice(None),
    slice(1, 3),
    slice(None, None, -1),
    slice(3, 0, -2),
    slice(10, 20),
    slice(-2, None),
    ...,
    (1, 2),
    (-1, -2),
    (..., 0),
    (0, ...),
    (slice(None), 1),
    (slice(1, None), slice(None, None, 2)),
    (slice(None, None, -1), slice(None, None, -1), slice(None, None, -1)),
    (1, ..., slice(0, 2)),
    (1, 2, 3),
    (),
    (slice(2, 2), 1),
    np.int64(2),
]


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_index_gives_the_view_that_numpy_gives(w: ts.Worker, index: Any) -> None:
    x = w.buffer((4, 5, 6), "int16")
    array = x.numpy()
    array[:] = np.arange(120).reshape(4, 5, 6)
    view, expected = x[index], np.asarray(array[index])
    assert type(view) is ts.Buffer and view.shape == expected.shape
    assert view.numpy().tolist() == expected.tolist()
    if expected.size > 1:
        assert view.data == expected.ctypes.data
        assert all(s == e for n, s, e in zip(view.shape, view.strides, expected.strides) if n > 1)
    tensor = ts.Tensor(x.data, x.shape, "int16")[index]
    assert type(tensor) is ts.Tensor and (tensor.data, tensor.shape) == (view.data, view.shape)
    if view.ndim:
        again = view[::-1]
        assert again.numpy().tolist() == expected[::-1].tolist()


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (4, IndexError),
        (-5, IndexError),
        ((0, 5), IndexError),
        ((0, 0, 0, 0), IndexError),
        ((..., ...), IndexError),
        ((0,) * 20, IndexError),
        (1 << 70, IndexError),
        ("a", TypeError),
        (1.0, TypeError),
        (None, TypeError),
        ([0, 1], TypeError),
        (slice(None, None, 0), ValueError),
        (slice("a"), TypeError),
    ],
    ids=repr,
)
def test_index_that_is_none_is_refused(w: ts.Worker, index: Any, error: type[Exception]) -> None:
    for x in (w.buffer((4, 5, 6)), ts.Tensor(64, (4, 5, 6))):
        with pytest.raises(error):
            x[index]


def test_elements_are_not_assigned_through_the_buffer_itself(w: ts.Worker) -> None:
    x = w.buffer(4)
    with pytest.raises(TypeError, match="does not support item assignment"):
        x[0] = 1  # type: ignore[index]
    with pytest.raises(AttributeError):
        x.shape = (2, 2)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        x.other = 1  # type: ignore[attr-defined]


def test_reshape_keeps_the_memory_and_the_number_of_elements(w: ts.Worker) -> None:
    x = w.buffer((4, 6))
    x.numpy()[:] = np.arange(24).reshape(4, 6)
    for shape in ((24,), (2, 12), (2, 3, 4), (1, 24, 1)):
        for view in (x.reshape(*shape), x.reshape(shape), x.reshape(list(shape))):
            assert (view.data, view.shape, type(view)) == (x.data, shape, ts.Buffer)
            assert view.numpy().ravel().tolist() == list(range(24))
    assert x[1:3].reshape(12).numpy()[0] == 6
    assert w.buffer(1).reshape(()).shape == () and w.buffer(()).reshape(1, 1).shape == (1, 1)
    assert w.buffer((0, 3)).reshape(0).shape == (0,)
    assert ts.Tensor(64, 6).reshape(2, 3).strides == (12, 4)
    for shape, error, text in (
        ((5, 5), ValueError, "shape has 25 elements, the tensor 24"),
        ((-1,), ValueError, "shape is -1|shape.0. is -1"),
        ((), ValueError, "1 elements"),
        (("a",), TypeError, "shape"),
        ((2.0, 12), TypeError, "shape"),
    ):
        with pytest.raises(error, match=text):
            x.reshape(*shape)
    with pytest.raises(ValueError, match="only a contiguous tensor"):
        x[:, ::2].reshape(12)


def test_tensor_is_made_of_an_address(w: ts.Worker) -> None:
    t = ts.Tensor(data=4096, shape=(2, 3), dtype="int64", strides=(8, 16))
    assert (t.data, t.shape, t.dtype, t.strides, t.nbytes, t.size) == (4096, (2, 3), "int64", (8, 16), 48, 6)
    assert ts.Tensor(2**64 - 1, ()).data == 2**64 - 1 and ts.Tensor(np.uint64(5), 1).data == 5
    assert ts.Tensor(64, 3, strides=(-4,)).strides == (-4,) and ts.Tensor(64, 3).strides == (4,)
    assert ts.Tensor(64, (3, 3), strides=(0, 4)).strides == (0, 4)
    for arguments, error, text in (
        ((2**64, 1), ValueError, "data is 18446744073709551616"),
        (("5", 1), TypeError, "data must be an int"),
        ((5.0, 1), TypeError, "data must be an int"),
        ((True, 1), TypeError, "data must be an int, not <class 'bool'>"),
        ((None, 1), TypeError, "data must be an int"),
        ((0, (2, 2), "f32", (4,)), ValueError, "strides has 1 numbers, shape 2"),
        ((0, 2, "f32", ("4",)), TypeError, r"strides\[0\] must be an int"),
        ((0, 2, "f32", 4), TypeError, "strides must be a sequence of ints"),
        ((0, 2, "f32", (1 << 60,)), ValueError, r"strides\[0\] is"),
        ((), TypeError, "data"),
        ((0,), TypeError, "shape"),
    ):
        with pytest.raises(error, match=text):
            ts.Tensor(*arguments)


# ---- the buffer protocol and DLPack ----


def test_memoryview_reads_and_writes_the_same_bytes(w: ts.Worker) -> None:
    x = w.buffer((2, 3), "int32")
    view = memoryview(x)
    assert (view.format, view.itemsize, view.shape, view.strides) == ("i", 4, (2, 3), (12, 4))
    assert view.contiguous and not view.readonly
    view[1, 2] = 7
    assert x.numpy()[1, 2] == 7 and bytes(x) == x.numpy().tobytes()
    column = memoryview(x[:, 2])
    assert (column.tolist(), column.strides, column.c_contiguous) == ([0, 7], (12,), False)
    assert memoryview(x[::-1, ::-1]).tolist() == [[7, 0, 0], [0, 0, 0]]
    assert memoryview(x[:, :0]).tolist() == [[], []]
    with pytest.raises(TypeError, match="not C contiguous"):
        ctypes.c_char.from_buffer(x[:, 2])
    assert ctypes.c_int32.from_buffer(x, 20).value == 7
    assert memoryview(x).cast("B").nbytes == 24
    with pytest.raises((ValueError, BufferError), match="contiguous"):
        np.frombuffer(x[:, 2], np.int32)
    fortran = np.asfortranarray(x)
    assert fortran.tolist() == x.numpy().tolist()
    fortran[0, 0] = 3  # a copy
    assert x.numpy()[0, 0] == 0


def test_arrays_of_numpy_are_the_same_bytes_without_a_copy(w: ts.Worker) -> None:
    x = w.buffer((3, 4), "float64")
    arrays = [x.numpy(), np.asarray(x), np.array(x, copy=False), np.frombuffer(x).reshape(3, 4)]
    readers = [*arrays, np.from_dlpack(x)]
    for i, a in enumerate(arrays):
        assert a.ctypes.data == x.data and a.flags.writeable
        a[1, 1] = i
        assert all(b[1, 1] == i and b.ctypes.data == x.data for b in readers)
    strided = x[::2, 1::2]
    assert np.shares_memory(strided.numpy(), x.numpy()) and np.from_dlpack(strided).strides == strided.numpy().strides
    x.numpy()[2, 0] = 9
    assert np.from_dlpack(x[::-1])[0, 0] == 9


def test_dlpack_of_every_type_and_of_all_shapes(w: ts.Worker) -> None:
    for name in DTYPES:
        assert np.from_dlpack(w.buffer((2, 2), name)).dtype == np.dtype(name)
    for shape in ((), (0,), (2,) * 8):
        assert np.from_dlpack(w.buffer(shape)).shape == shape
    x = w.buffer(3)
    np.from_dlpack(x)[1] = 5  # NumPy asks for version 1, which says that it may be written
    assert x.numpy().tolist() == [0, 5, 0]
    for options in ({"copy": True}, {"stream": 1}, {"dl_device": (2, 0)}):
        with pytest.raises(BufferError, match="host"):
            x.__dlpack__(**options)
    assert x.__dlpack_device__() == (1, 0)
    capsules = [x.__dlpack__(), x.__dlpack__(stream=None), x.__dlpack__(max_version=(1, 0), copy=None, dl_device=None)]
    assert all("dltensor" in repr(c) for c in capsules)
    gc.collect()
    held = w.stats()["heap_bytes"]
    del x
    gc.collect()
    assert w.stats()["heap_bytes"] == held  # capsules that nobody took
    capsules.clear()
    gc.collect()
    assert w.stats()["heap_bytes"] == held - 12


def test_tensors_of_pytorch_are_the_same_memory(w: ts.Worker, kernels: str) -> None:
    torch = pytest.importorskip("torch")
    affine = w.register(f"{kernels}:affine")
    x = w.buffer((4, 3), torch.float32)
    t = torch.from_dlpack(x)
    t.copy_(torch.arange(12).reshape(4, 3))
    w.run(lambda orch, args, config: orch.submit(affine, ts.inout(t[1:3].reshape(6)), 2.0, 1.0, chip=0))
    assert t.tolist() == [[0, 1, 2], [7, 9, 11], [13, 15, 17], [9, 10, 11]]
    assert torch.from_dlpack(w.buffer(2, torch.bfloat16)).dtype is torch.bfloat16
    with pytest.raises(ValueError, match="not memory of this worker"):
        w.run(lambda orch, args, config: orch.submit(affine, ts.inout(torch.zeros(3)), 1.0, 0.0))


def test_view_is_alive_as_long_as_what_was_made_of_it(w: ts.Worker) -> None:
    gc.collect()
    held = w.stats()["heap_bytes"]
    a = np.from_dlpack(w.buffer(10)[2:])[1:]
    b = memoryview(w.buffer(10))[3:]
    c = np.asarray(w.buffer((2, 5))).T
    gc.collect()
    assert w.stats()["heap_bytes"] == held + 120
    b[0] = 2
    c[:] = 3
    assert a.sum() == 0 and b[0] == 2 and c.sum() == 30
    del a, b, c
    gc.collect()
    assert w.stats()["heap_bytes"] == held


def test_buffer_in_a_cycle_is_collected(w: ts.Worker) -> None:
    gc.collect()
    held = w.stats()["heap_bytes"]
    for _ in range(10):
        cycle: list[Any] = [w.buffer(100)]
        cycle.append(cycle)
        args = ts.TaskArgs()
        args.add_tensor(cycle[0])
        cycle.append(args)
        cycle.append(ts.each([cycle, ts.out(cycle[0])]))
        del cycle, args
    gc.collect()
    assert w.stats()["heap_bytes"] == held


# ---- how they look, and what they are not ----


def test_repr_says_shape_type_and_where(w: ts.Worker) -> None:
    x = w.buffer((2, 3), "int16")
    assert repr(x) == f"<transom.Buffer (2, 3) int16 at {x.data:#x}>"
    assert repr(x[:, ::2]) == f"<transom.Buffer (2, 2) int16, strided at {x.data:#x}>"
    assert repr(x[0, 0]) == f"<transom.Buffer () int16 at {x.data:#x}>"
    assert repr(ts.Tensor(4096, 5)) == "<transom.Tensor (5,) float32 at 0x1000>"
    assert repr(ts.empty((1, 0), "bool")) == "<transom.Tensor (1, 0) bool, no memory yet>"
    assert repr(ts.out(x)) == f"transom.out({x!r})" and ts.out(x).tensor is x and ts.out(x).tag == ts.OUTPUT
    assert repr(ts.inout(x)) == f"transom.inout({x!r})" and ts.inout(x).tag == ts.INOUT
    assert repr(ts.nodep(x)) == f"transom.nodep({x!r})" and ts.nodep(x).tag == ts.NO_DEP
    assert repr(ts.each([1, "a"])) == "transom.each((1, 'a'))"
    assert repr(ts.CallConfig(blocks=3, limit=0.25)) == "CallConfig(blocks=3, limit=0.25)"
    assert repr(ts.CallConfig()) == "CallConfig(blocks=1, limit=None)"
    assert repr(ts.CommBufferSpec("a", "f32", 3, 12)) == "CommBufferSpec('a', 'float32', count=3, nbytes=12)"
    for tag in ts.Tag:
        assert getattr(ts, tag.name) is tag and ts.Tag(int(tag)) is tag


def test_repr_in_a_cycle_ends(w: ts.Worker) -> None:
    cycle: list[Any] = []
    cycle.append(ts.out(cycle))
    assert "[...]" in repr(cycle)


def test_configuration_has_what_it_was_made_of() -> None:
    config = ts.CallConfig(4, 1.5)
    assert (config.blocks, config.limit) == (4, 1.5)
    assert ts.CallConfig(limit=1).limit == 1.0 and ts.CallConfig(limit=None).limit is None
    with pytest.raises(AttributeError):
        config.blocks = 5  # type: ignore[misc]


def test_objects_of_a_worker_cannot_be_pickled_or_copied(w: ts.Worker) -> None:
    x = w.buffer(3)
    kept: list[Any] = []
    w.run(lambda orch, a, c: kept.extend([orch, orch.scope(), orch.allocate_domain("tp", [0], 64)]) or kept[2][0])
    handle = w.submit(lambda *a: None)
    args = ts.TaskArgs()
    things = [w, x, ts.Tensor(0, 1), args, ts.out(x), ts.each([1]), ts.CallConfig(), ts.CommBufferSpec("a"), handle]
    things += [*kept, w.register(print)]
    for thing in things:
        for call in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot pickle '[\\w.]+' object"):
                call(thing)
    f = w.register(lambda task, thing: None)
    for thing in things:
        if isinstance(thing, (ts.Tensor, ts.CommDomainHandle)):
            continue
        with pytest.raises(TypeError, match="cannot pickle|each"):
            w.run(lambda orch, a, c, thing=thing: orch.submit(f, [thing]))


def test_types_of_objects_that_come_from_a_worker_have_no_constructor() -> None:
    for kind in (
        ts.Buffer,
        ts.Callable,
        ts.ChipDomainContext,
        ts.CommDomainHandle,
        ts.Domain,
        ts.Orchestrator,
        ts.RunHandle,
        ts.Task,
    ):
        with pytest.raises(TypeError, match=f"cannot create 'transom.{kind.__name__}' instances"):
            kind()
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Sub", (kind,), {})
        assert kind.__doc__ and all(
            getattr(kind, name).__doc__ for name in dir(kind) if not name.startswith("_") and name != "numpy"
        )


def test_comparison_and_hash_are_by_identity(w: ts.Worker) -> None:
    x = w.buffer(3)
    for make in (lambda: w.buffer(3), lambda: ts.Tensor(0, 1), ts.CallConfig, ts.TaskArgs, lambda: ts.out(x)):
        a, b = make(), make()
        assert a == a and a != b and len({a, b, a}) == 2
    assert math.isfinite(hash(x))
