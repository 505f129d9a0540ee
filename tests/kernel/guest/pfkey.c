// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * pfkey show    open a PF_KEY socket, print /proc/net/pfkey while it is open
 * pfkey many    open up to 8 of them, print how many could be
 * pfkey reqid   add a policy that asks for a unique request identifier, print which one the kernel gave, remove it
 *
 * Messages as in RFC 2367 and include/uapi/linux/pfkeyv2.h. The exit status is the error, 0 for none.
 */
#include "guest.h"

enum { PF_KEY = 15, SOCK_RAW = 3, PF_KEY_V2 = 2, AF_INET = 2 };
enum { SPDADD = 14, SPDFLUSH = 19 };
enum { ADDRESS_SRC = 5, ADDRESS_DST = 6, POLICY = 18 };
enum { POLICY_IPSEC = 2, OUTBOUND = 2, ESP = 50, TRANSPORT = 1, UNIQUE = 3 };

struct message {
	u8 version, type, error, satype;
	u16 length, reserved;
	u32 seq, pid;
};

struct address {
	u16 length, kind;
	u8 protocol, prefix;
	u16 reserved;
	u16 family, port;
	u32 address;
	u8 zero[8];
};

struct policy {
	u16 length, kind, type;
	u8 direction, reserved;
	u32 id, priority;
};

struct request {
	u16 length, protocol;
	u8 mode, level;
	u16 reserved1;
	u32 reqid, reserved2;
};

static struct {
	struct message head;
	struct address from, to;
	struct policy policy;
	struct request request;
} add;

static long key_socket(void)
{
	return call(SOCKET, PF_KEY, SOCK_RAW, PF_KEY_V2, 0, 0, 0);
}

static int show(void)
{
	char text[4096];
	long file, size;

	must(key_socket());
	file = must(call(OPEN, (long)"/proc/net/pfkey", 0, 0, 0, 0, 0));
	while ((size = must(call(READ, file, (long)text, sizeof(text), 0, 0, 0))) > 0)
		call(WRITE, 1, (long)text, size, 0, 0, 0);
	return 0;
}

static int many(void)
{
	int count = 0;

	while (count < 8 && key_socket() >= 0)
		count++;
	print_number(count);
	return 0;
}

static void fill_address(struct address *a, int kind, u32 address)
{
	a->length = sizeof(*a) / 8;
	a->kind = kind;
	a->prefix = 32;
	a->family = AF_INET;
	a->address = address;
}

static void send(long fd, struct message *head, int type, int size)
{
	head->version = PF_KEY_V2;
	head->type = type;
	head->length = size / 8;
	head->seq = type;
	must(call(WRITE, fd, (long)head, size, 0, 0, 0));
}

/* The request identifier in the kernel's answer, or the end with the error it tells. */
static u32 answer(long fd)
{
	static u8 reply[4096];
	struct message *head = (void *)reply;
	long size = must(call(READ, fd, (long)reply, sizeof(reply), 0, 0, 0));
	long at;

	if (head->error)
		quit(head->error);
	for (at = sizeof(*head); at + 4 <= size;) {
		struct policy *p = (void *)(reply + at);

		if (p->kind == POLICY && p->length * 8ul >= sizeof(*p) + sizeof(struct request))
			return ((struct request *)(p + 1))->reqid;
		if (!p->length)
			break;
		at += p->length * 8;
	}
	return 0;
}

static int reqid(void)
{
	struct message flush = { 0 };
	long fd = must(key_socket());

	fill_address(&add.from, ADDRESS_SRC, 0x0101000a);
	fill_address(&add.to, ADDRESS_DST, 0x0201000a);
	add.policy.length = (sizeof(add.policy) + sizeof(add.request)) / 8;
	add.policy.kind = POLICY;
	add.policy.type = POLICY_IPSEC;
	add.policy.direction = OUTBOUND;
	add.request.length = sizeof(add.request);
	add.request.protocol = ESP;
	add.request.mode = TRANSPORT;
	add.request.level = UNIQUE;
	send(fd, &add.head, SPDADD, sizeof(add));
	print_number(answer(fd));
	send(fd, &flush, SPDFLUSH, sizeof(flush));
	answer(fd);
	return 0;
}

int program(int count, char **words)
{
	if (count == 2 && same(words[1], "show"))
		return show();
	if (count == 2 && same(words[1], "many"))
		return many();
	return count == 2 && same(words[1], "reqid") ? reqid() : 255;
}
