"""Name tables: one file per source library, and the machine that reads them in both directions."""
