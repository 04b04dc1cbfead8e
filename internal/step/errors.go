package step

import "errors"

// Values of which there is no text.
var (
	errUnknown = errors.New("the log does not have its value; set REPLICA IDENTITY FULL (PostgreSQL) or binlog_row_image=FULL (MySQL), or use another column")
	errNull    = errors.New("it is NULL, which has no text; use another column")
	errBinary  = errors.New("it is binary, which has no text; use another column")
)
