-- The shared tables as the gateway's ORM makes them.
CREATE TABLE users (
    id uuid PRIMARY KEY, email varchar UNIQUE, password_hash varchar, created_at timestamptz
);
CREATE TABLE videos (
    id uuid PRIMARY KEY, title varchar(255), description text, created_at timestamptz,
    uploaded_at timestamptz NULL, status varchar DEFAULT 'CREATED',
    user_id uuid NULL REFERENCES users ON DELETE CASCADE
);
CREATE TABLE flows (
    id uuid PRIMARY KEY, status varchar DEFAULT 'CREATED', created_at timestamptz,
    uploaded_at timestamptz NULL, video_id uuid NULL REFERENCES videos ON DELETE CASCADE
);
CREATE TABLE upload_sessions (
    id uuid PRIMARY KEY, total_bytes integer, uploaded_bytes integer DEFAULT 0,
    flow_id uuid NULL UNIQUE REFERENCES flows ON DELETE CASCADE
);
