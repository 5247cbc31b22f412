//! A deterministic engine without a model: what tests, the contract suites and a cluster without a GPU run on.
