# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Trains a classifier of handwritten digits on several chips, data-parallel: examples/digits in Python.

Every chip holds a part of the images and its own copy of the weights. A step is one group, a member on each chip: it
computes the gradient over its images, all-reduces it in a domain that exists for this step only, and updates its copy.
The same training runs with 1, 2 and 4 chips and is compared.

Data: E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits. UCI Machine Learning Repository (1998).
https://doi.org/10.24432/C50P49. CC BY 4.0. digits.csv: 64 counts of 0..16 and the digit, in a row.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

import transom as ts

PIXELS, HIDDEN, CLASSES = 64, 32, 10
IMAGES, HELD_OUT = 1797, 400
TRAINED = IMAGES - HELD_OUT
WEIGHTS = PIXELS * HIDDEN + HIDDEN + CLASSES * HIDDEN + CLASSES
STEPS_AHEAD = 2  # steps in flight: one runs, one waits in the rings
RATE, MOMENTUM = np.float32(0.5), np.float32(0.9)
DIFFERENCE_MAX = 1e-4  # allowed between two numbers of chips: the sums round in another order

Floats = npt.NDArray[np.float32]

# ---- the classifier: 64 pixels, one hidden layer of tanh, a softmax over ten digits ----


def layers(network: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """w1, b1, w2 and b2 as views of one array."""
    ends = np.cumsum([PIXELS * HIDDEN, HIDDEN, CLASSES * HIDDEN])
    w1, b1, w2, b2 = np.split(network, ends)
    return w1.reshape(PIXELS, HIDDEN), b1, w2.reshape(CLASSES, HIDDEN), b2


def classify(network: Floats, images: Floats) -> tuple[Floats, Floats]:
    """What the hidden layer says, and the probabilities of the classes, of each image."""
    w1, b1, w2, b2 = layers(network)
    hidden = np.tanh(images @ w1 + b1)
    scores = hidden @ w2.T + b2
    p: Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return hidden, p


def add_gradient(network: Floats, images: Floats, labels: npt.NDArray[np.uint8], total: Floats) -> float:
    """Adds the gradient of the images' losses to total; returns the sum of the losses."""
    w2 = layers(network)[2]
    hidden, p = classify(network, images)
    rows = np.arange(len(labels))
    loss = -np.log(np.maximum(p[rows, labels], np.float32(1e-30))).sum()
    p[rows, labels] -= 1
    back = (p @ w2) * (1 - hidden * hidden)
    for part, gradient in zip(layers(total), (images.T @ back, back.sum(axis=0), p.T @ hidden, p.sum(axis=0))):
        part += gradient
    return float(loss)


def start_network(seed: int) -> Floats:
    """Uniform weights from xorshift64, as the program of C draws them."""
    state = (seed + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    network = np.zeros(WEIGHTS, np.float32)
    w1, _, w2, _ = layers(network)
    for part, limit in ((w1, (6 / (PIXELS + HIDDEN)) ** 0.5), (w2, (6 / (HIDDEN + CLASSES)) ** 0.5)):
        for i in range(part.size):
            state ^= state << 13 & 0xFFFFFFFFFFFFFFFF
            state ^= state >> 7
            state ^= state << 17 & 0xFFFFFFFFFFFFFFFF
            part.flat[i] = np.float32(limit) * (np.float32(state >> 40) / np.float32(1 << 23) - np.float32(1))
    return network


def read_images() -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Pixels in 0..1 and labels, always shuffled in the same way: the file is in the order in which people wrote."""
    here = pathlib.Path(__file__).parent
    rows = np.loadtxt(here / "digits.csv", delimiter=",", dtype=np.int64)
    place = [0] * IMAGES
    state = 1797
    for i in range(IMAGES):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        other = (state >> 33) % (i + 1)
        place[i], place[other] = place[other], i
    shuffled = np.empty_like(rows)
    shuffled[place] = rows
    return (shuffled[:, :PIXELS] / 16).astype(np.float32), shuffled[:, PIXELS].astype(np.uint8)


# ---- the tasks: they run in the chips' processes ----


def train_step(
    task: ts.Task,
    pixels: Floats,
    labels: npt.NDArray[np.uint8],
    weights: Floats,
    velocity: Floats,
    stats: npt.NDArray[np.float64],
    domain: ts.Domain,
) -> None:
    """One step on one chip. stats: seconds of begin, gradient, all-reduce and update; the loss."""
    sums = domain["sums"]  # the window came zeroed
    stats[0] = time.monotonic()
    sums[-1] = add_gradient(weights, pixels.reshape(-1, PIXELS), labels, sums[:-1])
    stats[1] = time.monotonic()
    domain.all_reduce("sums")
    stats[2] = time.monotonic()
    velocity *= MOMENTUM
    velocity -= RATE / np.float32(TRAINED) * sums[:-1]
    weights += velocity
    stats[4] = sums[-1] / TRAINED
    stats[3] = time.monotonic()


def predict(task: ts.Task, weights: Floats, images: Floats, predicted: npt.NDArray[np.uint8]) -> None:
    predicted[:] = classify(weights, images)[1].argmax(axis=1)


# ---- the orchestration function: it runs in this process ----


@dataclass
class Training:
    """What one training is given, then what it leaves."""

    chips: int
    steps: int
    weights: Floats
    stats: ts.Buffer  # [steps][chips][5]
    held_out: ts.Buffer
    predicted: ts.Buffer
    pixels: Floats
    labels: npt.NDArray[np.uint8]
    train_step: ts.Callable
    predict: ts.Callable
    allocation_us: list[float] = field(default_factory=list)
    copies_differ: int = 0


def place_on_chip(orch: ts.Orchestrator, chip: int, array: npt.NDArray[Any]) -> ts.Tensor:
    """Memory of the chip, until the function ends, with a copy of the array."""
    tensor = orch.alloc(array.shape, array.dtype, chip=chip)
    orch.copy_to(chip, tensor, array)
    return tensor


def train(orch: ts.Orchestrator, tr: Training, config: None) -> None:
    chips = range(tr.chips)
    parts = [slice(TRAINED * c // tr.chips, TRAINED * (c + 1) // tr.chips) for c in chips]
    pixels = ts.each(place_on_chip(orch, c, tr.pixels[parts[c]].ravel()) for c in chips)
    labels = ts.each(place_on_chip(orch, c, tr.labels[parts[c]]) for c in chips)
    copies = [place_on_chip(orch, c, tr.weights) for c in chips]
    weights = ts.each(ts.inout(t) for t in copies)
    velocity = ts.each(ts.inout(place_on_chip(orch, c, np.zeros(WEIGHTS, np.float32))) for c in chips)
    sums = [ts.CommBufferSpec("sums", "float32", WEIGHTS + 1)]
    for step in range(tr.steps):
        if step >= STEPS_AHEAD:  # the one STEPS_AHEAD before is finished first
            orch.host_wait(tr.stats[step - STEPS_AHEAD])
        began = time.perf_counter()
        domain = orch.allocate_domain("step", chips, 4 * (WEIGHTS + 1), sums)
        allocated = time.perf_counter()
        stats = ts.each(ts.out(tr.stats[step, c]) for c in chips)
        orch.submit_group(tr.train_step, pixels, labels, weights, velocity, stats, domain, chips=chips)
        releasing = time.perf_counter()
        domain.release()  # freed when the step is done
        tr.allocation_us.append(1e6 * (allocated - began + time.perf_counter() - releasing))
    orch.submit(tr.predict, copies[0], tr.held_out, ts.out(tr.predicted), chip=0)
    for c in chips:
        copy = np.empty(WEIGHTS, np.float32)
        orch.copy_from(c, copy, copies[c])
        tr.copies_differ += c > 0 and copy.tobytes() != tr.weights.tobytes()
        tr.weights = copy if c == 0 else tr.weights


# ---- the program ----


def times_of(tr: Training) -> tuple[float, float, float]:
    """Medians over the steps, in microseconds: a step; means over the chips of gradient and update, of all-reduce."""
    t = 1e6 * tr.stats.numpy()[:, :, :4]
    ends = t[:, :, 3].max(axis=1)
    steps = np.diff(ends, prepend=t[0, 0, 0])
    tasks = (t[:, :, 1] - t[:, :, 0] + t[:, :, 3] - t[:, :, 2]).mean(axis=1)
    waiting = (t[:, :, 2] - t[:, :, 1]).mean(axis=1)
    return float(np.median(steps)), float(np.median(tasks)), float(np.median(waiting))


def run_training(w: ts.Worker, chips: int, steps: int, seed: int, data: tuple[Any, ...]) -> Training:
    pixels, labels, held_out, step_callable, predict_callable = data
    tr = Training(
        chips=chips,
        steps=steps,
        weights=start_network(seed),
        stats=w.buffer((steps, chips, 5), "float64"),
        held_out=held_out,
        predicted=w.buffer(HELD_OUT, "uint8"),
        pixels=pixels,
        labels=labels,
        train_step=step_callable,
        predict=predict_callable,
    )
    w.run(train, tr)
    return tr


def parse_chips(text: str) -> list[int]:
    counts = [int(item) for item in text.split(",")]
    if not 1 <= len(counts) <= 8 or not all(1 <= n <= 64 for n in counts):
        raise argparse.ArgumentTypeError(f"{text!r}: up to 8 numbers of chips, each 1 to 64")
    return counts


def parse_steps(text: str) -> int:
    steps = int(text)
    if not 1 <= steps <= 100000:
        raise argparse.ArgumentTypeError(f"{text!r}: 1 to 100000 steps")
    return steps


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m transom.demo",
        description="Trains a classifier of handwritten digits on several chips and compares the results.",
    )
    parser.add_argument("--chips", type=parse_chips, default=[1, 2, 4], help="numbers of chips (default 1,2,4)")
    parser.add_argument("--steps", type=parse_steps, default=150, help="of gradient descent (default 150)")
    parser.add_argument("--seed", type=int, default=1, help="for the weights to start from (default 1)")
    options = parser.parse_args()
    print(
        f"{TRAINED} handwritten digits to train with, {HELD_OUT} held out; {HIDDEN} hidden units, {WEIGHTS} weights\n"
        f"steps: {options.steps}, each over all images and in a domain of its own\n\n"
        "        median of a step, microseconds                      largest difference\n"
        "chips     step  in tasks  waiting  allocation  accuracy     weight       loss",
        flush=True,
    )
    pixels, labels = read_images()
    trainings: list[Training] = []
    largest = 0.0
    with ts.Worker(max(options.chips)) as w:
        held_out = w.buffer((HELD_OUT, PIXELS))
        held_out.numpy()[:] = pixels[TRAINED:]
        data = (pixels[:TRAINED], labels[:TRAINED], held_out, w.register(train_step), w.register(predict))
        for chips in options.chips:
            tr = run_training(w, chips, options.steps, options.seed, data)
            trainings.append(tr)
            first = trainings[0]
            accuracy = 100 * np.mean(tr.predicted.numpy() == labels[TRAINED:])
            weight = float(np.abs(tr.weights - first.weights).max())
            loss = float(np.abs(tr.stats.numpy()[:, 0, 4] - first.stats.numpy()[:, 0, 4]).max())
            largest = max(largest, weight, loss)
            step, tasks, waiting = times_of(tr)
            print(
                f"{chips:5d} {step:8.0f}  {tasks:8.0f} {waiting:8.1f} {statistics.median(tr.allocation_us):11.2f}"
                f"  {accuracy:7.2f} %  {weight:9.1e}  {loss:9.1e}",
                flush=True,
            )
    differ = sum(tr.copies_differ for tr in trainings)
    print(
        "\n"
        "in tasks    gradient and update, mean over the chips\n"
        "waiting     in the all-reduce, for the other chips and the sum\n"
        "allocation  of the domain, with its release\n"
        f"difference  to the first line: {'within' if largest <= DIFFERENCE_MAX else 'NOT WITHIN'} {DIFFERENCE_MAX:g}."
        " The chips add the same gradients in\n"
        "            another order, so the sums round differently\n"
        "copies      of the weights on the chips of a training: "
        f"{'NOT THE SAME' if differ else 'the same, bit for bit'}\n"
        "data        Optical Recognition of Handwritten Digits, E. Alpaydin, C. Kaynak,\n"
        "            UCI Machine Learning Repository, doi.org/10.24432/C50P49, CC BY 4.0"
    )
    return 0 if differ == 0 and largest <= DIFFERENCE_MAX else 1
