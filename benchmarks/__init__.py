"""Speed and memory of a node, each beside what the bare machine does in the same run.

``python -m benchmarks`` starts real processes of a node (its own wiring, its own logs) in a
temporary folder, drives them over real sockets from another process, and prints one table.
``docs/benchmarks.md`` keeps the figures and how to read them. This is no test: a slow
machine gives small numbers and no failure; only a wrong answer is one.
"""
