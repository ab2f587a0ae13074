"""Prepared data sets: records on disk, written once and read at random."""
