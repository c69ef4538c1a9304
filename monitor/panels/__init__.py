"""The panels of the dashboard, one file each; `monitor.window.PANELS` lists them."""
