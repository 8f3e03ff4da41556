//! Ticks, stages and pages through the real queue, on real sides.
