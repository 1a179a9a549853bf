"""The certificate of a bank: real studies of a benchmark against their replays on the bank."""
