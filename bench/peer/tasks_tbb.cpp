// SPDX-License-Identifier: BSD-3-Clause
// Copyright The Transom Authors
//
// oneTBB in the figures about tasks (peer/tasks.h): threads of one process, so many workers and the one that submits. That
// one runs tasks too wherever it waits, and what a task makes ready runs in the same thread next, so most tasks meet no other
// thread: this is how oneTBB is meant to be used, and it has no way to say where a task shall run. A contender
// (bench/contender.h); argument: the number of workers.
//
// round_trip N         task_group: ns from run to the end of wait, one at a time
// round_trip_other N   ns when another thread runs it: enqueued in an arena without the one that submits
// independent N        task_group: ns of one of N
// chain N              flow graph, built before: ns of one link, from the begin of the first to the begin of the last
// graph                flow graph: ns of a task of the random layered graph, built and run
// chain_data, graph_data: the same, for the user has to draw the edges here in any case

#include <atomic>
#include <cstdlib>
#include <deque>

#include <tbb/flow_graph.h>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include "peer/tasks.h"

namespace
{

using node = tbb::flow::continue_node<tbb::flow::continue_msg>;
using message = tbb::flow::continue_msg;

uint32_t from[GRAPH_TASKS][GRAPH_FAN_IN];
tbb::task_arena *arena;  // the one that submits, and the workers
tbb::task_arena *others; // the workers only

// The compiler must not see that there is nothing in it.
inline void run_empty()
{
    asm volatile("");
}

double round_trip(uint32_t n, const char *)
{
    return arena->execute([n] {
        tbb::task_group group;
        const uint64_t begin = clock_ns();
        for (uint32_t i = 0; i < n; i++) {
            group.run(run_empty);
            group.wait();
        }
        return static_cast<double>(clock_ns() - begin) / n;
    });
}

double round_trip_other(uint32_t n, const char *)
{
    std::atomic<uint32_t> done{0};
    const uint64_t begin = clock_ns();
    for (uint32_t i = 1; i <= n; i++) {
        others->enqueue([&done, i] { done.store(i, std::memory_order_release); });
        while (done.load(std::memory_order_acquire) != i) {
        }
    }
    return static_cast<double>(clock_ns() - begin) / n;
}

double independent(uint32_t n, const char *)
{
    return arena->execute([n] {
        tbb::task_group group;
        const uint64_t begin = clock_ns();
        for (uint32_t i = 0; i < n; i++) {
            group.run(run_empty);
        }
        group.wait();
        return static_cast<double>(clock_ns() - begin) / n;
    });
}

double chain(uint32_t n, const char *)
{
    return arena->execute([n] {
        uint64_t first = 0, last = 0;
        tbb::flow::graph graph;
        std::deque<node> nodes;
        for (uint32_t i = 0; i < n; i++) {
            uint64_t *clock = i == 0 ? &first : i == n - 1 ? &last : nullptr;
            nodes.emplace_back(graph, [clock](const message &m) {
                if (clock) {
                    *clock = clock_ns();
                }
                return m;
            });
            if (i > 0) {
                tbb::flow::make_edge(nodes[i - 1], nodes[i]);
            }
        }
        nodes[0].try_put(message());
        graph.wait_for_all();
        return static_cast<double>(last - first) / (n - 1);
    });
}

double graph(uint32_t, const char *)
{
    return arena->execute([] {
        const uint64_t begin = clock_ns();
        tbb::flow::graph graph;
        std::deque<node> nodes;
        for (uint32_t t = 0; t < GRAPH_TASKS; t++) {
            nodes.emplace_back(graph, [](const message &m) {
                run_empty();
                return m;
            });
            for (uint32_t k = 0; t >= GRAPH_WIDTH && k < GRAPH_FAN_IN; k++) {
                tbb::flow::make_edge(nodes[from[t][k]], nodes[t]);
            }
        }
        for (uint32_t t = 0; t < GRAPH_WIDTH; t++) {
            nodes[t].try_put(message());
        }
        graph.wait_for_all();
        return static_cast<double>(clock_ns() - begin) / GRAPH_TASKS;
    });
}

} // namespace

int main(int argc, char **argv)
{
    static const task_order orders[] = {
        {"round_trip", round_trip, 4},   {"round_trip_other", round_trip_other, 4},
        {"independent", independent, 8}, {"chain", chain, 4},
        {"chain_data", chain, 4},        {"graph", graph, 1},
        {"graph_data", graph, 1},
    };
    const int workers = argc > 1 ? std::atoi(argv[1]) : 1;
    // An arena alone gets no more threads than there are cores.
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                    static_cast<size_t>(workers) + 1);
    tbb::task_arena all(workers + 1, 1), rest(workers, 0);
    arena = &all;
    others = &rest;
    graph_make(from);
    return take_orders(orders, sizeof(orders) / sizeof(orders[0]));
}
