/* Behind the text of every other kernel: a phase shared by the threads that the process has.
 *
 * PyTorch's own OpenMP library is loaded first under the name that the compiler links, so these are
 * PyTorch's threads: they need not be started, and none of them spins on the processor that another
 * pool would want. */
#ifdef _OPENMP
int ssa_run_team(const Task *t, int64_t phase, int64_t threads) {
    int64_t next = 0;
    int failed = 0;
#pragma omp parallel num_threads((int)threads) reduction(| : failed)
    failed |= ssa_run(t, phase, &next);
    return failed;
}
#endif
