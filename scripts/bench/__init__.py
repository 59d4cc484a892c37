"""The benchmarks: Fermata and its peers, on the same interpreter, under the same load, in interleaved rounds."""
