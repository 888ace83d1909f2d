/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef COMMANDS_H
#define COMMANDS_H

/* The subcommands of the program, except bench_main, which is in bench.h. argv[0] is the
 * subcommand's name; what each returns is the program's exit status. */
int control_main(int argc, char **argv);
int demo_main(int argc, char **argv);
int gpu_main(int argc, char **argv);
int info_main(int argc, char **argv);
int replay_main(int argc, char **argv);
int trace_main(int argc, char **argv);
int top_main(int argc, char **argv);

#endif
