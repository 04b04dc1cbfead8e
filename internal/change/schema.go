package change

import "github.com/redpanda-data/benthos/v4/public/schema"

// The table as a Benthos schema.Common. Its types are those of the JSON that the native envelope has: an encoder that is given a
// row image and this schema finds in each field what the type promises. Where the schema package has a more telling type whose
// values the encoders do not accept in the form that our JSON has, the type is String: a date and time without zone, a time of
// day, a decimal wider than schema.DecimalMaxPrecision or without precision (which also can be NaN).

func (t *Table) commonSchema() schema.Common {
	return schema.Common{Name: t.Name, Type: schema.Object, Children: commonColumns(t.Columns)}
}

func commonColumns(columns []Column) []schema.Common {
	out := make([]schema.Common, 0, len(columns))
	for _, c := range columns {
		out = append(out, c.common())
	}
	return out
}

func (c Column) common() schema.Common {
	s := schema.Common{Name: c.Name, Optional: c.Nullable, Type: schema.String}
	switch c.Logical {
	case LogicalText, LogicalTime, LogicalDateTime:
	case LogicalBool:
		s.Type = schema.Boolean
	case LogicalInt32:
		s.Type = schema.Int32
	case LogicalUint32:
		s.Type = schema.Int64
	case LogicalInt64:
		s.Type = schema.Int64
		if c.Quoted {
			setDecimal(&s, int64Digits, 0)
		}
	case LogicalUint64:
		setDecimal(&s, uint64Digits, 0)
	case LogicalFloat32:
		s.Type = schema.Float32
	case LogicalFloat64:
		s.Type = schema.Float64
	case LogicalDecimal:
		setDecimal(&s, c.Precision, c.Scale)
	case LogicalBytes:
		s.Type = schema.Object
		s.Children = []schema.Common{{Name: "_base64", Type: schema.String}}
	case LogicalJSON:
		s.Type = schema.Any
	case LogicalDate:
		s.Type = schema.Date
	case LogicalTimestamp:
		s.Type = schema.Timestamp
		s.Logical = &schema.LogicalParams{Timestamp: &schema.TimestampParams{Unit: timeUnit(c.Scale), AdjustToUTC: true}}
	case LogicalUUID:
		s.Type = schema.UUID
	case LogicalGeometry:
		s.Type = schema.Object
		s.Children = []schema.Common{{Name: "wkb", Type: schema.String}, {Name: "srid", Type: schema.Int64}}
	case LogicalObject:
		s.Type, s.Children = schema.Object, commonColumns(c.Parts)
	case LogicalArray, LogicalMap:
		s.Type = schema.Array
		if c.Logical == LogicalMap {
			s.Type = schema.Map
		}
		s.Children = commonColumns(c.Parts)
		for i := range s.Children {
			if s.Children[i].Type == schema.Object {
				s.Children[i].Name = c.Name // formats such as Avro want a name for every record
			}
		}
	}
	return s
}

// The digits of the largest integers.
const (
	int64Digits  = 19
	uint64Digits = 20
)

// setDecimal makes s a decimal where the schema package has one that wide.
func setDecimal(s *schema.Common, precision, scale int) {
	if precision < int(schema.DecimalMinPrecision) || precision > int(schema.DecimalMaxPrecision) || scale < 0 || scale > precision {
		return
	}
	s.Type = schema.Decimal
	s.Logical = &schema.LogicalParams{Decimal: &schema.DecimalParams{Precision: int32(precision), Scale: int32(scale)}}
}

// timeUnit is the coarsest unit that holds that many fractional digits, of those that Avro and Parquet have.
func timeUnit(digits int) schema.TimeUnit {
	if digits <= 3 {
		return schema.TimeUnitMillis
	}
	return schema.TimeUnitMicros
}
