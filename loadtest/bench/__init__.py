"""`make bench`: one run, one table. What each figure means is in docs/benchmarks.md."""
