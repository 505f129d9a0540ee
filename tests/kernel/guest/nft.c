// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nft add    a table "kg" of family ip, a chain "in" on the input hook, a rule with a counter
 * nft del    the table, with all that is in it
 *
 * Messages as in include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h. The exit status is the error, 0 for none.
 */
#include "guest.h"

enum { AF_NETLINK = 16, SOCK_RAW = 3, NETLINK_NETFILTER = 12, NFPROTO_IPV4 = 2 };
enum { BATCH_BEGIN = 0x10, BATCH_END = 0x11, NEWTABLE = 0xa00, DELTABLE = 0xa02, NEWCHAIN = 0xa03, NEWRULE = 0xa06 };
enum { REQUEST = 1, ACK = 4, CREATE = 0x400, APPEND = 0x800, NESTED = 0x8000, NLMSG_ERROR = 2, SUBSYS_NFTABLES = 10 };

static u8 buffer[4096] __attribute__((aligned(8)));
static u32 used, start;

static void *room(u32 size)
{
	void *at = buffer + used;

	used += (size + 3) & ~3u;
	return at;
}

static void begin_message(int type, int flags, u8 family, u16 resource)
{
	u32 *head;
	u8 *nfgen;

	start = used;
	head = room(16);
	head[1] = type | (REQUEST | flags) << 16;
	head[2] = start + 1;
	nfgen = room(4);
	nfgen[0] = family;
	nfgen[2] = resource >> 8;
	nfgen[3] = resource & 255;
}

static void end_message(void)
{
	*(u32 *)(buffer + start) = used - start;
}

static void put(u16 kind, const void *data, u16 size)
{
	u16 *head = room(4);

	head[0] = 4 + size;
	head[1] = kind;
	memcpy(room(size), data, size);
}

static void put_text(u16 kind, const char *text)
{
	u16 size = 0;

	while (text[size])
		size++;
	put(kind, text, size + 1);
}

static void put_number(u16 kind, u32 value)
{
	u32 swapped = __builtin_bswap32(value);

	put(kind, &swapped, 4);
}

static u32 begin_nest(u16 kind)
{
	u32 at = used;
	u16 *head = room(4);

	head[1] = kind | NESTED;
	return at;
}

static void end_nest(u32 at)
{
	*(u16 *)(buffer + at) = used - at;
}

static void add(void)
{
	u32 outer, inner;

	begin_message(NEWTABLE, CREATE | ACK, NFPROTO_IPV4, 0);
	put_text(1, "kg");
	end_message();

	begin_message(NEWCHAIN, CREATE | ACK, NFPROTO_IPV4, 0);
	put_text(1, "kg");
	put_text(3, "in");
	outer = begin_nest(4);
	put_number(1, 1);	/* NF_INET_LOCAL_IN */
	put_number(2, 0);	/* priority */
	end_nest(outer);
	put_text(7, "filter");
	end_message();

	begin_message(NEWRULE, CREATE | APPEND | ACK, NFPROTO_IPV4, 0);
	put_text(1, "kg");
	put_text(2, "in");
	outer = begin_nest(4);
	inner = begin_nest(1);
	put_text(1, "counter");
	end_nest(begin_nest(2));
	end_nest(inner);
	end_nest(outer);
	end_message();
}

static void del(void)
{
	begin_message(DELTABLE, ACK, NFPROTO_IPV4, 0);
	put_text(1, "kg");
	end_message();
}

int program(int count, char **words)
{
	int adding = count == 2 && same(words[1], "add");
	int answers = adding ? 3 : 1;
	u32 address[3] = { AF_NETLINK };
	long fd;

	if (!adding && !(count == 2 && same(words[1], "del")))
		return 255;
	fd = must(call(SOCKET, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER, 0, 0, 0));
	must(call(BIND, fd, (long)address, sizeof(address), 0, 0, 0));
	begin_message(BATCH_BEGIN, 0, 0, SUBSYS_NFTABLES);
	end_message();
	if (adding)
		add();
	else
		del();
	begin_message(BATCH_END, 0, 0, SUBSYS_NFTABLES);
	end_message();
	must(call(SENDTO, fd, (long)buffer, used, 0, (long)address, sizeof(address)));
	while (answers > 0) {
		static u8 reply[8192];
		long size = must(call(RECVFROM, fd, (long)reply, sizeof(reply), 0, 0, 0));
		long at = 0;

		while (at + 20 <= size) {
			u32 *head = (void *)(reply + at);

			if ((head[1] & 0xffff) == NLMSG_ERROR) {
				if ((int)head[4])
					return -(int)head[4];
				answers--;
			}
			at += (head[0] + 3) & ~3u;
		}
	}
	return 0;
}
