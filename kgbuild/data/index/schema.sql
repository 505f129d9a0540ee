-- SPDX-License-Identifier: GPL-2.0-or-later
-- The index of one kernel. docs/schema/index.md explains it; meta.schema says the version (3).

CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- vmlinux and every module; done is 1 once all of an object is in
CREATE TABLE objects(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, relocated INTEGER NOT NULL, decoded INTEGER NOT NULL, done INTEGER NOT NULL);

CREATE TABLE sections(id INTEGER PRIMARY KEY, object INTEGER NOT NULL, name TEXT NOT NULL);

-- translation units: source file where it is known, else the name in the symbol table; offset in .debug_info
CREATE TABLE units(id INTEGER PRIMARY KEY, object INTEGER NOT NULL, source TEXT NOT NULL, dwarf INTEGER);

-- one row for each body of code. address is signed: printf('%x', address) shows it; in a module it is the offset in the section
CREATE TABLE functions(
    id INTEGER PRIMARY KEY, object INTEGER NOT NULL, section INTEGER NOT NULL, address INTEGER NOT NULL,
    size INTEGER NOT NULL, name TEXT NOT NULL, unit INTEGER, trace_site INTEGER, init INTEGER NOT NULL);

-- one row for each name of a body; family is what a clone's name was derived from
CREATE TABLE symbols(
    function INTEGER NOT NULL, name TEXT NOT NULL, bind INTEGER NOT NULL, sympos INTEGER,
    exported INTEGER NOT NULL, family TEXT);

CREATE TABLE kinds(id INTEGER PRIMARY KEY, name TEXT NOT NULL, about TEXT NOT NULL);

-- one row for each reference from code to a function
CREATE TABLE calls(
    caller INTEGER NOT NULL, offset INTEGER NOT NULL, kind INTEGER NOT NULL, callee INTEGER NOT NULL,
    delta INTEGER NOT NULL, PRIMARY KEY(caller, offset, kind, callee)) WITHOUT ROWID;

-- code that has no symbol, and so belongs to no function, but leads to the start of one; address as in functions
CREATE TABLE strays(function INTEGER NOT NULL, section INTEGER NOT NULL, address INTEGER NOT NULL);

-- data that holds the address of a function, each such address, and the functions that take the address of that data
CREATE TABLE holders(
    id INTEGER PRIMARY KEY, object INTEGER NOT NULL, section INTEGER NOT NULL, address INTEGER NOT NULL,
    name TEXT NOT NULL);
CREATE TABLE pointers(holder INTEGER NOT NULL, offset INTEGER NOT NULL, function INTEGER NOT NULL);
CREATE TABLE users(holder INTEGER NOT NULL, function INTEGER NOT NULL);

-- while it is being made: references to exports of modules that were not read yet
CREATE TABLE pending(caller INTEGER, holder INTEGER, offset INTEGER NOT NULL, kind INTEGER, name TEXT NOT NULL);

CREATE VIEW function_list AS
    SELECT f.id, o.name AS object, coalesce(u.source, '') AS unit, f.name, s.name AS section,
           printf('%#x', f.address) AS address, f.size, f.trace_site IS NOT NULL AS traceable,
           (SELECT max(exported) FROM symbols WHERE function = f.id) AS exported
    FROM functions f JOIN objects o ON o.id = f.object JOIN sections s ON s.id = f.section
    LEFT JOIN units u ON u.id = f.unit;
CREATE VIEW call_list AS
    SELECT o.name AS object, a.name AS caller, c.offset, k.name AS kind, p.name AS callee_object, b.name AS callee, c.delta
    FROM calls c JOIN kinds k ON k.id = c.kind JOIN functions a ON a.id = c.caller JOIN functions b ON b.id = c.callee
    JOIN objects o ON o.id = a.object JOIN objects p ON p.id = b.object;
