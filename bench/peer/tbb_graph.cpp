// SPDX-License-Identifier: BSD-3-Clause
// Copyright The Transom Authors
//
// The peer of bench/graph.c: the same random layered graph in oneTBB's flow graph, built and run, with the tasks in
// threads of one process. Prints the median ns per task of some rounds.
//
//   tbb_graph THREADS SEED

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <vector>

#include <tbb/flow_graph.h>
#include <tbb/global_control.h>

namespace {

constexpr uint32_t layers = 100, width = 100, tasks = layers * width, fan_in = 3;
constexpr int rounds = 7;

uint32_t from[tasks][fan_in];

uint32_t random_below(uint64_t &state, uint32_t n)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return static_cast<uint32_t>((state * UINT64_C(2685821657736338717) >> 32) % n);
}

void make_graph(uint64_t state)
{
    for (uint32_t t = width; t < tasks; t++) {
        const uint32_t layer = (t / width - 1) * width;
        for (uint32_t k = 0; k < fan_in; k++) {
            do {
                from[t][k] = layer + random_below(state, width);
            } while ((k > 0 && from[t][0] == from[t][k]) || (k > 1 && from[t][1] == from[t][k]));
        }
    }
}

double build_and_run()
{
    using node = tbb::flow::continue_node<tbb::flow::continue_msg>;
    const auto begin = std::chrono::steady_clock::now();
    double ns;
    {
        tbb::flow::graph graph;
        std::deque<node> nodes;
        for (uint32_t t = 0; t < tasks; t++) {
            nodes.emplace_back(graph, [](const tbb::flow::continue_msg &m) { return m; });
            for (uint32_t k = 0; t >= width && k < fan_in; k++) {
                tbb::flow::make_edge(nodes[from[t][k]], nodes[t]);
            }
        }
        for (uint32_t t = 0; t < width; t++) {
            nodes[t].try_put(tbb::flow::continue_msg());
        }
        graph.wait_for_all();
        ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
    }
    return ns / tasks;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 3) {
        return 2;
    }
    const tbb::global_control threads(tbb::global_control::max_allowed_parallelism,
                                      static_cast<size_t>(std::atoi(argv[1])));
    make_graph(std::strtoull(argv[2], nullptr, 10));
    build_and_run();
    std::vector<double> ns;
    for (int i = 0; i < rounds; i++) {
        ns.push_back(build_and_run());
    }
    std::sort(ns.begin(), ns.end());
    std::printf("%f\n", ns[rounds / 2]);
}
