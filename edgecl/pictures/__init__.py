"""Pictures as they come: files, folders and lists, made safe and turned into pixels."""
