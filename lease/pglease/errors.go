package pglease

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// explain says what was tried, and what is to be done about err where that is known. No text of pgx or of the server has the password, but
// that about a parameter which was meant to be a part of it: see misread, too.
func explain(op string, err error) error {
	var connect *pgconn.ConnectError
	failed := &failure{op: op, cause: err, connecting: errors.As(err, &connect)}
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		failed.hint = hints[answer.Code]
		if failed.connecting && refusesParameter(answer) {
			failed.hint, failed.secret = parameter, true
		}
	}
	return failed
}

// hints say what is to be done, by SQLSTATE.
var hints = map[string]string{
	"42P01": "the tables are not there: run pglease.Migrate, or set search_path in the connection string",
	"3F000": "no schema of the search_path exists: create it, and run pglease.Migrate",
	"42703": foreign, "42804": foreign, "42883": foreign, "42P10": foreign, "42809": foreign, "22P02": foreign,
	"42501": "the role lacks a right: it needs SELECT on tm_schema, and SELECT, INSERT, UPDATE and DELETE on tm_session and tm_lease",
	"25006": "the server takes no writes, as a standby: give the primary's address, or several hosts and target_session_attrs=read-write",
	"3D000": "there is no such database",
	"28P01": "the server does not accept the password", "28000": "the server does not accept the role",
	"53300": "the server has no connection left: a replica needs three",
	"57P03": "the server is starting or stopping",
	"55000": "the server can't do that in its state",
}

const foreign = "a table tm_session, tm_lease or tm_schema is not as this version of pglease makes it: it is of another version, or " +
	"another program's; use the same version in all replicas, or another schema by search_path"

const parameter = "the server refuses a parameter of the connection string, which is not shown, as it may be a part of the password: look for a " +
	"keyword that is misspelled, and for a password with spaces that has no quotes"

// refusesParameter reports whether a server, or PgBouncer, says that it does not take what it was given beside user and database.
func refusesParameter(answer *pgconn.PgError) bool {
	switch answer.Code {
	case "42704", "42602", "22023":
		return true
	}
	return strings.Contains(answer.Message, "startup parameter")
}

// A failure is an error of a call, in one line.
type failure struct {
	op         string
	cause      error
	connecting bool   // no connection was made
	hint       string // empty: none
	secret     bool   // the text of cause is not for all to read
}

func (f *failure) Error() string {
	text := strings.Join(strings.Fields(f.cause.Error()), " ")
	switch {
	case f.secret:
		return fmt.Sprintf("pglease: %s: %s", f.op, f.hint)
	case f.hint != "":
		return fmt.Sprintf("pglease: %s: %s (%s)", f.op, f.hint, text)
	case errors.Is(f.cause, context.DeadlineExceeded) && !f.connecting:
		return fmt.Sprintf("pglease: %s: the server does not answer in time (%s)", f.op, text)
	}
	return fmt.Sprintf("pglease: %s: %s", f.op, text)
}

func (f *failure) Unwrap() error { return f.cause }

// passing reports whether err is of a kind that another try, on a new connection if need be, may not have.
func passing(err error) bool {
	var final permanent
	if errors.As(err, &final) {
		return false
	}
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return true
	}
	switch answer.Code {
	case "40001", "40P01", // somebody else's transaction was in the way
		"57P01", "57P02", "57P03", "53300", // the server stops, has crashed, starts, is full
		"25006": // a connection to what was the primary before a failover
		return true
	}
	return strings.HasPrefix(answer.Code, "08")
}

// unusable reports whether a connection is not to be used again after err, though it is open.
func unusable(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && (answer.Code == "25006" || strings.HasPrefix(answer.Code, "57P"))
}
