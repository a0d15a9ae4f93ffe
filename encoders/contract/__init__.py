"""The runtime contract: which executions a proof speaks about, as data and as files."""
