"""What is done with finished runs and data sets: audits, benchmarks, films, pages."""
