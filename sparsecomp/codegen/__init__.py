"""From exec IR to an artifact: C++ source, native programs, the packed file."""
