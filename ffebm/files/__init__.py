"""Files written whole or not at all, and folders whose every byte is checked."""
