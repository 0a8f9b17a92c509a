"""Runs a model that was compiled with --shards, on as many processes as it has parts.

torchrun --nproc-per-node 2 -m sparsecomp.distributed out.spz -p "Once upon a time"

Each rank computes its own neurons, heads and rows of the vocabulary. What they exchange goes
through torch.distributed: sums of vectors, by gloo on CPUs and NCCL on GPUs, and a few candidates
for each token. No rank sees the scores of another's units.
"""
