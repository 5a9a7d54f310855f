# After an installation ($1 is 1) or an upgrade (2).

# Configurations are copied to here before the first start, so ConfigurationDirectory= would come too late.
[ -d /etc/sersync ] || mkdir -m 755 /etc/sersync

# The old name of the program. Somebody else's is left as it is.
[ -e /usr/bin/sersync2 ] || ln -s sersync /usr/bin/sersync2

journalctl --update-catalog >/dev/null 2>&1 || :
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
	systemctl reload dbus.service >/dev/null 2>&1 || :
	if [ "$1" -eq 1 ]; then
		systemctl preset sersync.target >/dev/null 2>&1 || :
	fi
	# What runs goes on with the new program; what does not run stays so.
	if [ "$1" -gt 1 ]; then
		systemctl try-restart 'sersync@*.service' 'sersync2-*.service' || :
	fi
fi
