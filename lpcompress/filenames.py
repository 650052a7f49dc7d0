"""Names of files in a checkpoint that commands look for before they import anything heavy."""

CONFIG = "config.json"
REPORT_FILE = "lpcompress.json"
RECORD_FILE = "finetuning.json"
