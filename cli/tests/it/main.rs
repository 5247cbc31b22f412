//! Supervision with real processes: the built `smallest` as the launcher, shells as programs.

mod supervise;
