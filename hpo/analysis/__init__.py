"""Pure reading of finished studies: records, statistics, comparison."""
