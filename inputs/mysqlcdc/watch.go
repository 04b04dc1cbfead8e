package mysqlcdc

import (
	"context"
	"fmt"
	"time"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// filesInterval is the time between two questions for the binlog files.
const filesInterval = 10 * time.Second

// maxDoubts is how often the server may say that it has nothing new, and list a longer log.
const maxDoubts = 3

// watchFiles asks, now and then, for the sizes of the binlog files. The lag in bytes is worked out from them, and they show that a log was
// reset while its stream goes on: MariaDB lets the stream wait at the end of a file that is deleted. A failure leaves the lag unknown;
// the dump will tell whether the server is gone.
func (s *session) watchFiles(ctx context.Context, now time.Time) error {
	if now.Sub(s.filesAt) < s.log.filesInterval {
		return nil
	}
	s.filesAt = now
	files, err := s.logFiles(ctx)
	if err != nil {
		s.log.files.Store(nil)
		return nil //nolint:nilerr // see above
	}
	last := files[len(files)-1]
	for _, f := range files {
		switch {
		case f.Name != s.file:
		case f.Size < s.pos && !s.vague:
			return s.doubt(ctx, "it has read up to %s, and that file has %d bytes", s.place(), f.Size)
		case f == last && uint32(f.Size) == uint32(s.lastBeat):
			s.doubts = 0
			return nil
		default:
			return s.noteDoubt(ctx, last)
		}
	}
	if gtid.SameBase(s.file, last.Name) && !gtid.Newer(s.file, last.Name) {
		return s.noteDoubt(ctx, last) // purged, and what is left of it is on its way
	}
	return s.doubt(ctx, "it reads %s, and the server has %s to %s", s.file, files[0].Name, last.Name)
}

// noteDoubt counts how often the log ended elsewhere than where the server had nothing new, while nothing came.
func (s *session) noteDoubt(ctx context.Context, last catalog.LogFile) error {
	at := gtid.Position{File: s.file, Pos: s.pos}
	if s.doubted != at {
		s.doubted, s.doubts = at, 0
	}
	if s.doubts++; s.doubts < maxDoubts {
		return nil
	}
	return s.doubt(ctx, "nothing comes after %s, and the log goes on to %s:%d", s.place(), last.Name, last.Size)
}

// doubt ends a session whose stream cannot be that of the server's log: with what is wrong with its position, if that is it.
func (s *session) doubt(ctx context.Context, format string, args ...any) error {
	if err := s.prove(ctx); err != nil {
		return err
	}
	return fault.WithKind(fault.KindProtocol, fmt.Errorf("the stream is not that of the server's log: "+format, args...))
}

// prove holds the position that was reached against the log.
func (s *session) prove(ctx context.Context) error {
	if err := s.inspect(ctx); err != nil {
		return err
	}
	_, err := s.resume(ctx, s.position, s.identity)
	return err
}
