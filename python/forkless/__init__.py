"""Process parallelism that cannot bite."""
