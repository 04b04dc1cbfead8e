package change

// RowWriter writes the row that an encoder has in hand as JSON, straight from what the log has of it. What it writes is what the encoder
// would make of the values of the row. Where it cannot, its owner knows, and throws away what the encoder made.
type RowWriter interface {
	// AppendRow appends the object of the image before or after the change, or null if there is no such image. Names has `,"name":` of
	// each column. Ends are set to where the value of each column ends, from the start of the object. Of one row, the image before
	// the change is asked for first, and each at most once. It returns false if it cannot.
	AppendRow(dst []byte, after bool, names [][]byte, ends []int32) (_ []byte, ok bool)
}

// DirectEncoder is an Encoder that can do without the values of rows.
type DirectEncoder interface {
	Encoder
	// Direct makes it take the rows of the events that follow from the writer; nil: from the events again.
	Direct(w RowWriter)
}
