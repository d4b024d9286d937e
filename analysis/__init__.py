"""From records to tables and figures. Reads files only; never imports the library."""
