/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "keymap.h"

#include <stddef.h>

#include <linux/input-event-codes.h>

/* keysyms: the first of `count`, which have codes one after the other. */
static const struct {
	uint32_t keysym;
	uint16_t code, count;
} keys[] = {
	/* Letters and signs: the keysym is the character. */
	{ 'q', KEY_Q, 1 },
	{ 'w', KEY_W, 1 },
	{ 'e', KEY_E, 1 },
	{ 'r', KEY_R, 1 },
	{ 't', KEY_T, 1 },
	{ 'y', KEY_Y, 1 },
	{ 'u', KEY_U, 1 },
	{ 'i', KEY_I, 1 },
	{ 'o', KEY_O, 1 },
	{ 'p', KEY_P, 1 },
	{ 'a', KEY_A, 1 },
	{ 's', KEY_S, 1 },
	{ 'd', KEY_D, 1 },
	{ 'f', KEY_F, 1 },
	{ 'g', KEY_G, 1 },
	{ 'h', KEY_H, 1 },
	{ 'j', KEY_J, 1 },
	{ 'k', KEY_K, 1 },
	{ 'l', KEY_L, 1 },
	{ 'z', KEY_Z, 1 },
	{ 'x', KEY_X, 1 },
	{ 'c', KEY_C, 1 },
	{ 'v', KEY_V, 1 },
	{ 'b', KEY_B, 1 },
	{ 'n', KEY_N, 1 },
	{ 'm', KEY_M, 1 },
	{ '1', KEY_1, 9 },
	{ '0', KEY_0, 1 },
	{ '!', KEY_1, 1 },
	{ '@', KEY_2, 1 },
	{ '#', KEY_3, 1 },
	{ '$', KEY_4, 1 },
	{ '%', KEY_5, 1 },
	{ '^', KEY_6, 1 },
	{ '&', KEY_7, 1 },
	{ '*', KEY_8, 1 },
	{ '(', KEY_9, 1 },
	{ ')', KEY_0, 1 },
	{ '-', KEY_MINUS, 1 },
	{ '_', KEY_MINUS, 1 },
	{ '=', KEY_EQUAL, 1 },
	{ '+', KEY_EQUAL, 1 },
	{ '[', KEY_LEFTBRACE, 1 },
	{ '{', KEY_LEFTBRACE, 1 },
	{ ']', KEY_RIGHTBRACE, 1 },
	{ '}', KEY_RIGHTBRACE, 1 },
	{ ';', KEY_SEMICOLON, 1 },
	{ ':', KEY_SEMICOLON, 1 },
	{ '\'', KEY_APOSTROPHE, 1 },
	{ '"', KEY_APOSTROPHE, 1 },
	{ '`', KEY_GRAVE, 1 },
	{ '~', KEY_GRAVE, 1 },
	{ '\\', KEY_BACKSLASH, 1 },
	{ '|', KEY_BACKSLASH, 1 },
	{ ',', KEY_COMMA, 1 },
	{ '<', KEY_COMMA, 1 },
	{ '.', KEY_DOT, 1 },
	{ '>', KEY_DOT, 1 },
	{ '/', KEY_SLASH, 1 },
	{ '?', KEY_SLASH, 1 },
	{ ' ', KEY_SPACE, 1 },
	/* XK_BackSpace, and so on, of <X11/keysymdef.h>. */
	{ 0xff08, KEY_BACKSPACE, 1 },
	{ 0xff09, KEY_TAB, 1 },
	{ 0xfe20, KEY_TAB, 1 },
	{ 0xff0d, KEY_ENTER, 1 },
	{ 0xff13, KEY_PAUSE, 1 },
	{ 0xff6b, KEY_PAUSE, 1 },
	{ 0xff14, KEY_SCROLLLOCK, 1 },
	{ 0xff15, KEY_SYSRQ, 1 },
	{ 0xff61, KEY_SYSRQ, 1 },
	{ 0xff1b, KEY_ESC, 1 },
	{ 0xff50, KEY_HOME, 1 },
	{ 0xff51, KEY_LEFT, 1 },
	{ 0xff52, KEY_UP, 1 },
	{ 0xff53, KEY_RIGHT, 1 },
	{ 0xff54, KEY_DOWN, 1 },
	{ 0xff55, KEY_PAGEUP, 1 },
	{ 0xff56, KEY_PAGEDOWN, 1 },
	{ 0xff57, KEY_END, 1 },
	{ 0xff63, KEY_INSERT, 1 },
	{ 0xffff, KEY_DELETE, 1 },
	{ 0xff67, KEY_COMPOSE, 1 },
	{ 0xff7f, KEY_NUMLOCK, 1 },
	/* The keypad: Enter, then as Home to Insert, then as digits. */
	{ 0xff8d, KEY_KPENTER, 1 },
	{ 0xff95, KEY_KP7, 1 },
	{ 0xff96, KEY_KP4, 1 },
	{ 0xff97, KEY_KP8, 1 },
	{ 0xff98, KEY_KP6, 1 },
	{ 0xff99, KEY_KP2, 1 },
	{ 0xff9a, KEY_KP9, 1 },
	{ 0xff9b, KEY_KP3, 1 },
	{ 0xff9c, KEY_KP1, 1 },
	{ 0xff9d, KEY_KP5, 1 },
	{ 0xff9e, KEY_KP0, 1 },
	{ 0xff9f, KEY_KPDOT, 1 },
	{ 0xffaa, KEY_KPASTERISK, 1 },
	{ 0xffab, KEY_KPPLUS, 1 },
	{ 0xffad, KEY_KPMINUS, 1 },
	{ 0xffae, KEY_KPDOT, 1 },
	{ 0xffaf, KEY_KPSLASH, 1 },
	{ 0xffb0, KEY_KP0, 1 },
	{ 0xffb1, KEY_KP1, 3 },
	{ 0xffb4, KEY_KP4, 3 },
	{ 0xffb7, KEY_KP7, 3 },
	/* F1 to F12. */
	{ 0xffbe, KEY_F1, 10 },
	{ 0xffc8, KEY_F11, 2 },
	/* Shift, Control, Caps Lock, Meta, Alt, Super; AltGr. */
	{ 0xffe1, KEY_LEFTSHIFT, 1 },
	{ 0xffe2, KEY_RIGHTSHIFT, 1 },
	{ 0xffe3, KEY_LEFTCTRL, 1 },
	{ 0xffe4, KEY_RIGHTCTRL, 1 },
	{ 0xffe5, KEY_CAPSLOCK, 1 },
	{ 0xffe7, KEY_LEFTALT, 1 },
	{ 0xffe8, KEY_RIGHTALT, 1 },
	{ 0xffe9, KEY_LEFTALT, 1 },
	{ 0xffea, KEY_RIGHTALT, 1 },
	{ 0xffeb, KEY_LEFTMETA, 1 },
	{ 0xffec, KEY_RIGHTMETA, 1 },
	{ 0xfe03, KEY_RIGHTALT, 1 },
};

#define NUM_ROWS (sizeof(keys) / sizeof(keys[0]))

uint16_t keymap_find(uint32_t keysym)
{
	if (keysym >= 'A' && keysym <= 'Z') {
		keysym += 'a' - 'A';
	}
	for (size_t i = 0; i < NUM_ROWS; i++) {
		if (keysym >= keys[i].keysym && keysym - keys[i].keysym < keys[i].count) {
			return (uint16_t)(keys[i].code + (keysym - keys[i].keysym));
		}
	}
	return 0;
}
