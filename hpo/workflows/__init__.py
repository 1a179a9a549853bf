"""Commands that run several studies or leave the machine, one file each."""
