// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A devlink device that is only there to be asked for a dump of its health, as `devlink health dump` does for a network
 * card. Reading /proc/kgbuild_devlink says what four functions of devlink returned and how many items they put into it.
 */
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <net/devlink.h>

static struct platform_device *device;
static struct devlink *devlink;
static struct devlink_health_reporter *reporter;

/* how struct devlink_fmsg begins */
struct items {
	struct list_head list;
};

struct answer {
	int results[4], items;
};

static int count(struct devlink_fmsg *fmsg)
{
	struct list_head *at;
	int n = 0;

	list_for_each(at, &((struct items *)fmsg)->list)
		n++;
	return n;
}

static int dump(struct devlink_health_reporter *reporter, struct devlink_fmsg *fmsg, void *context,
		struct netlink_ext_ack *extack)
{
	struct answer *answer = context;
	int before = count(fmsg);

	if (!answer)
		return 0;
	answer->results[0] = devlink_fmsg_bool_pair_put(fmsg, "bool", true);
	answer->results[1] = devlink_fmsg_u8_pair_put(fmsg, "u8", 8);
	answer->results[2] = devlink_fmsg_u32_pair_put(fmsg, "u32", 32);
	answer->results[3] = devlink_fmsg_u64_pair_put(fmsg, "u64", 64);
	answer->items = count(fmsg) - before;
	/* an error: devlink forgets the dump, and asks for a new one next time */
	return -ECANCELED;
}

static const struct devlink_health_reporter_ops reporter_ops = {
	.name = "kgbuild",
	.dump = dump,
};
static const struct devlink_ops ops;

static int show(struct seq_file *m, void *unused)
{
	struct answer answer = { };

	devlink_health_report(reporter, "asked", &answer);
	seq_printf(m, "bool %d u8 %d u32 %d u64 %d items %d\n", answer.results[0], answer.results[1], answer.results[2],
		   answer.results[3], answer.items);
	return 0;
}

static int __init start(void)
{
	device = platform_device_register_simple("kgbuild_devlink", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(device))
		return PTR_ERR(device);
	devlink = devlink_alloc(&ops, 0, &device->dev);
	if (!devlink)
		goto no_devlink;
	reporter = devlink_health_reporter_create(devlink, &reporter_ops, 0, NULL);
	if (IS_ERR(reporter))
		goto no_reporter;
	devlink_register(devlink);
	if (!proc_create_single("kgbuild_devlink", 0444, NULL, show))
		goto no_proc;
	return 0;
no_proc:
	devlink_unregister(devlink);
	devlink_health_reporter_destroy(reporter);
no_reporter:
	devlink_free(devlink);
no_devlink:
	platform_device_unregister(device);
	return -ENOMEM;
}

static void __exit end(void)
{
	remove_proc_entry("kgbuild_devlink", NULL);
	devlink_unregister(devlink);
	devlink_health_reporter_destroy(reporter);
	devlink_free(devlink);
	platform_device_unregister(device);
}

module_init(start);
module_exit(end);
MODULE_DESCRIPTION("kgbuild: a devlink device to ask for a dump");
MODULE_LICENSE("GPL");
