//! Golden traces, properties over whole worlds, faults and benchmarks.
