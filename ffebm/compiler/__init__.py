"""Model in, plan out: the front ends and the pass order."""
