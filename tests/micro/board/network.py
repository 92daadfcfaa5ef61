"""MicroPython's `network` of a board that is a process: an access point that takes whoever knows its password."""

STA_IF = 0
STAT_IDLE, STAT_CONNECTING, STAT_WRONG_PASSWORD, STAT_GOT_IP = 0, 1, -3, 3
PASSWORD = "correct horse"


class WLAN:
    def __init__(self, interface):
        self._status = STAT_IDLE

    def active(self, on):
        if not on:
            self._status = STAT_IDLE

    def connect(self, ssid, password):
        self._status = STAT_GOT_IP if password == PASSWORD else STAT_WRONG_PASSWORD

    def disconnect(self):
        self._status = STAT_IDLE

    def isconnected(self):
        return self._status == STAT_GOT_IP

    def status(self):
        return self._status

    def ifconfig(self):
        return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")
