"""The training loop, the runs it trains, and their workdirs."""
