"""The parts that methods are made of: plans, searchers, schedulers, spaces."""
